//! The agent's metrics, read from its components on request.

use std::sync::{Arc, Mutex};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sextant_daemon::Metrics;
use sextant_docker::watch::Following;
use sextant_ndp::{proxy::Unanswered, responder::Known};
use tokio::sync::watch;

use crate::{
    bgp,
    cluster::Input,
    engine::{Meters, Report},
    neighbours,
    problems::Found,
    session::Condition,
};

/// The sources of the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) input: watch::Receiver<Input>,
    pub(crate) report: watch::Receiver<Report>,
    pub(crate) condition: watch::Receiver<Condition>,
    /// The host's Docker engine, if it is followed.
    pub(crate) docker: Option<watch::Receiver<Following>>,
    pub(crate) problems: watch::Receiver<Found>,
    /// The answers to neighbour solicitations, in that topology.
    pub(crate) ndp: Option<watch::Receiver<Known>>,
}

/// All metrics of an agent.
pub(crate) fn registry(
    sources: Sources,
    engine: &Meters,
    bgp: &bgp::Meters,
    neighbours: &neighbours::Meters,
) -> Metrics {
    let mut registry = Registry::with_prefix("sextant_agent");
    engine.register(&mut registry);
    bgp.register(&mut registry);
    neighbours.register(&mut registry);
    registry.register_collector(Box::new(sources));
    Arc::new(Mutex::new(registry))
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (input, report, condition) = (self.input.borrow(), self.report.borrow(), self.condition.borrow());
        let docker_events = self.docker.as_ref().map_or(0, |following| following.borrow().events);
        let applied = report.applied.map_or(0, |(_, revision)| revision.0);
        let seen =
            |forwarding| report.verdicts.iter().filter(|it| it.forwarding == forwarding).count() as u64;
        let gauges = [
            ("connected", "Whether a controller is connected", u64::from(condition.connected)),
            ("streams", "Streams to controllers since the start", condition.streams),
            ("ready", "Whether the host is set up", u64::from(report.set_up)),
            ("claims", "Host prefixes that this node holds", input.claims.len() as u64),
            (
                "problems",
                "Problems of this host, as sextant status shows them",
                self.problems.borrow().len() as u64,
            ),
            ("peers", "Known nodes, including this one", input.view.peers().count() as u64),
            ("peers_forwarding_without_agent", "Hosts that answer while their agents are gone", seen(true)),
            ("peers_dead", "Hosts that do not answer; their prefixes are refused", seen(false)),
            ("revision_known", "Last revision received", input.view.revision().0),
            ("revision_applied", "Last revision applied to the kernel", applied),
            ("docker_events", "Events of the Docker engine since the start", docker_events),
            ("routes_failed", "Routes that the kernel refused", report.failed.len() as u64),
            (
                "routes_conflicting",
                "Routes of other processes that take packets from ours, or would without them",
                report.conflicts.len() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        self.ndp.as_ref().map_or(Ok(()), |known| encode_ndp(&known.borrow(), &mut encoder))
    }
}

/// What was answered for containers, and why not.
fn encode_ndp(known: &Known, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let alive = known.alive.as_ref().map_or(0, |alive| alive.len());
    let gauge = ConstGauge::new(i64::try_from(alive).unwrap_or(i64::MAX));
    let help = "Addresses of containers that are answered for";
    gauge.encode(encoder.encode_descriptor("ndp_addresses", help, None, gauge.metric_type())?)?;
    let unanswered = |reason| known.counts.unanswered.get(&reason).copied().unwrap_or_default();
    let counters = [
        ("ndp_answers", "Solicitations that the agent answered, and not the kernel", known.counts.answered),
        (
            "ndp_asked",
            "Solicitations for addresses that no container had answered for yet",
            unanswered(Unanswered::Unknown),
        ),
        ("ndp_limited", "Solicitations beyond the limit of one neighbour", unanswered(Unanswered::Limit)),
        (
            "ndp_left_to_kernel",
            "Solicitations for addresses that the kernel answers for",
            unanswered(Unanswered::Kernel),
        ),
        ("ndp_invalid", "Packets that are no valid neighbour discovery", known.invalid),
    ];
    for (name, help, value) in counters {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    Ok(())
}
