//! The metrics of the controller, read from its services at each scrape.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};
use sextant_authority::Authority;
use sextant_daemon::Metrics;
use sextant_identity::Credentials;
use sextant_proto::NodeState;

use crate::services::Services;

/// All metrics of a controller, with these credentials if it speaks TLS.
pub fn registry(services: &Services, credentials: Option<Arc<Credentials>>) -> Metrics {
    let mut registry = Registry::with_prefix("sextant_controller");
    if let Some(credentials) = credentials {
        registry.register_collector(Box::new(Certificates {
            credentials,
            authority: services.authority.clone(),
        }));
    }
    registry.register_collector(Box::new(FromServices(services.clone())));
    Arc::new(Mutex::new(registry))
}

/// The ends of the certificates.
#[derive(Debug)]
struct Certificates {
    credentials: Arc<Credentials>,
    authority: Option<Authority>,
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let unix_secs = |time: SystemTime| {
            number(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
        };
        let (name, help) =
            ("certificate_end_timestamp_seconds", "End of this controller's certificate, in Unix time");
        gauge(&mut encoder, name, help, unix_secs(self.credentials.holder().ends))?;
        let Some(authority) = &self.authority else { return Ok(()) };
        let (name, help) = (
            "issuing_certificate_end_timestamp_seconds",
            "End of the certificate with which this controller makes others, in Unix time",
        );
        gauge(&mut encoder, name, help, unix_secs(authority.ends()))
    }
}

struct FromServices(Services);

impl std::fmt::Debug for FromServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromServices")
    }
}

impl Collector for FromServices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let published = self.0.index.published();
        let lag = self.0.acks.progress(published, None);
        let counts = self.0.index.read(|state| {
            let in_state = |wanted| state.nodes().values().filter(|node| node.record.state == wanted).count();
            [
                ("revision", "Last revision published to agents", published.0 as usize),
                ("pools", "Pools", state.pools().len()),
                ("claims", "Claims", state.claims().len()),
                ("sessions", "Live agents", state.sessions().len()),
                ("nodes_ready", "Announced nodes", in_state(NodeState::Ready)),
                ("nodes_drained", "Drained nodes", in_state(NodeState::Drained)),
                ("agents_behind", "Live agents that have not applied the last revision", lag.laggards.len()),
            ]
        });
        let connections = self.0.connections.counts();
        let backups = self.0.backups.taken();
        let counts = counts.into_iter().chain([
            ("calls_refused", "Calls refused since the start", number(self.0.refused_calls.total())),
            ("connections_open", "Connections of agents and operators", connections.open),
            ("connections_most", "Limit of connections", connections.most),
            (
                "connections_refused",
                "Connections refused at the limit, since the start",
                number(connections.refused),
            ),
            (
                "connections_silent",
                "Connections closed without any call, since the start",
                number(connections.silent),
            ),
            (
                "connections_idle",
                "Connections closed by the idle time-out, since the start",
                number(connections.idle),
            ),
            (
                "backup_last_timestamp_seconds",
                "Time of the last automatic backup, in Unix time; 0 if there is none",
                number(backups.last_unix_ms.unwrap_or_default() / 1000),
            ),
            (
                "store_ready",
                "Whether this controller keeps its lease in the store, and the store takes changes",
                usize::from(self.0.health.store_is_ready()),
            ),
            (
                "backup_failing",
                "Whether the last automatic backup failed",
                usize::from(backups.failing.is_some()),
            ),
        ]);
        for (name, help, value) in counts {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: usize,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    let unit: Option<&Unit> = None;
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}
