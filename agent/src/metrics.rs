//! The agent's metrics, read from its components on request.

use std::sync::{Arc, Mutex};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sextant_daemon::Metrics;
use sextant_docker::watch::Following;
use sextant_ndp::proxy::{Form, Unanswered};
use tokio::sync::watch;

use crate::{
    bgp,
    cluster::Input,
    engine::{Meters, Report},
    ndp, neighbours,
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
    pub(crate) ndp: Option<ndp::Meters>,
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
        self.ndp.as_ref().map_or(Ok(()), |ndp| encode_ndp(ndp, &mut encoder))
    }
}

/// What was answered for containers, and why not.
fn encode_ndp(meters: &ndp::Meters, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let known = meters.known.borrow();
    let count = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
    let gauges = [
        (
            "ndp_addresses",
            "Addresses of containers that are answered for",
            count(known.alive.as_ref().map_or(0, |alive| alive.len())),
        ),
        ("ndp_groups", "Multicast groups of these addresses that the agent is in", count(known.groups)),
        ("ndp_entries", "Proxy entries of the kernel on the uplinks", meters.entries.get()),
    ];
    for (name, help, value) in gauges {
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
    }
    let counts = known.counts.all();
    let help = "Solicitations that the agent answered, and not the kernel";
    let answered = Form::ALL.map(|form| (kind(form), counts.answered.get(&form)));
    encode_each(encoder, "ndp_answers", help, "kind", answered)?;
    let help = "Valid solicitations that the agent did not answer";
    let refused = Unanswered::ALL.map(|reason| (reason.text(), counts.unanswered.get(&reason)));
    encode_each(encoder, "ndp_refused", help, "reason", refused)?;
    let counters = [
        ("ndp_advertised", "Advertisements of addresses that have come into use", counts.advertised),
        ("ndp_invalid", "Packets that are no valid neighbour discovery", known.invalid),
    ];
    for (name, help, value) in counters {
        let counter = ConstCounter::new(value);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    Ok(())
}

fn kind(form: Form) -> &'static str {
    match form {
        Form::Multicast => "multicast",
        Form::Unicast => "unicast",
        Form::Detection => "dad",
    }
}

/// A counter for each value of a label.
fn encode_each<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: [(&str, Option<&u64>); N],
) -> Result<(), std::fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in counts {
        let counter = ConstCounter::new(count.copied().unwrap_or_default());
        counter.encode(metric.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
