//! The path between two nodes.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    NodeName, PoolName,
    trace::{self, Kind, State, Verdict},
};

use super::filled;
use crate::answer;

/// Both directions of a path.
#[derive(Debug, Serialize)]
pub(crate) struct Trace<'a> {
    directions: Vec<Direction<'a>>,
    unasked: Vec<Unasked<'a>>,
}

/// One direction.
#[derive(Debug, Serialize)]
struct Direction<'a> {
    from: &'a NodeName,
    to: &'a NodeName,
    from_container: Option<&'a str>,
    to_container: Option<&'a str>,
    pool: Option<&'a PoolName>,
    verdict: &'static str,
    at: Option<&'a NodeName>,
    why: Option<&'a str>,
    fix: Option<&'a str>,
    /// The former name of `fix`, for programs written for version 0.1.
    mend: Option<&'a str>,
    checks: Vec<Check<'a>>,
    probe: Option<Probe<'a>>,
    arrived: Option<u32>,
}

/// A check by an agent.
#[derive(Debug, Serialize)]
struct Check<'a> {
    node: &'a NodeName,
    what: &'a str,
    state: &'static str,
    saw: &'a str,
    fix: Option<&'a str>,
    /// The former name of `fix`, for programs written for version 0.1.
    mend: Option<&'a str>,
}

/// Packets that an agent sent to the other host.
#[derive(Debug, Serialize)]
struct Probe<'a> {
    kind: Option<&'static str>,
    source: Option<Ipv6Addr>,
    target: Ipv6Addr,
    sent: u32,
    answered_us: Vec<u64>,
    error: Option<&'a str>,
    error_from: Option<Ipv6Addr>,
}

/// An agent that did not answer.
#[derive(Debug, Serialize)]
struct Unasked<'a> {
    node: &'a NodeName,
    why: &'a str,
}

impl<'a> From<&'a answer::Trace> for Trace<'a> {
    fn from(trace: &'a answer::Trace) -> Self {
        Self {
            directions: trace.directions.iter().map(Direction::from).collect(),
            unasked: trace.unasked.iter().map(|(node, why)| Unasked { node, why }).collect(),
        }
    }
}

impl<'a> From<&'a trace::Direction> for Direction<'a> {
    fn from(it: &'a trace::Direction) -> Self {
        let verdict = match it.verdict {
            Verdict::Works => "works",
            Verdict::Broken => "broken",
            Verdict::Unknown => "unknown",
        };
        Self {
            from: &it.from,
            to: &it.to,
            from_container: it.from_container.as_deref(),
            to_container: it.to_container.as_deref(),
            pool: it.pool.as_ref(),
            verdict,
            at: it.at.as_ref(),
            why: filled(&it.why),
            fix: filled(&it.fix),
            mend: filled(&it.fix),
            checks: it.checks.iter().map(|(node, check)| Check::new(node, check)).collect(),
            probe: it.probe.as_ref().map(Probe::from),
            arrived: it.arrived,
        }
    }
}

impl<'a> Check<'a> {
    fn new(node: &'a NodeName, check: &'a trace::Check) -> Self {
        let state = match check.state {
            State::Good => "good",
            State::Doubtful => "doubtful",
            State::Broken => "broken",
            State::Silent => "unknown",
        };
        let fix = filled(&check.fix);
        Self { node, what: &check.what, state, saw: &check.saw, fix, mend: fix }
    }
}

impl<'a> From<&'a trace::Probe> for Probe<'a> {
    fn from(probe: &'a trace::Probe) -> Self {
        let kind = match probe.kind {
            Kind::None => None,
            Kind::Echo => Some("icmpv6_echo"),
            Kind::StrayDatagram => Some("udp"),
        };
        let error = probe.error.as_ref();
        Self {
            kind,
            source: probe.source,
            target: probe.target,
            sent: probe.sent,
            answered_us: probe.answered.iter().map(|it| it.as_micros() as u64).collect(),
            error: error.map(|error| error.what.as_str()),
            error_from: error.and_then(|error| error.from),
        }
    }
}
