//! Operators' questions and the agent's answers, also as messages.

use std::net::Ipv6Addr;

use futures::future::BoxFuture;
use sextant_proto::{
    Containers, NodeName, PoolName,
    convert::{address, octets, parse as parse_text},
    ndp::NdpProxy,
    v1::{self, answer::About},
};

use crate::{
    containers::Filter,
    engine::{Arriving, Pending, Preview},
    kernel::Change,
    ndp::Wanted,
    trace::{Check, HostReport, Kind, PathReport, Probe, Received, State},
};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which changes are pending in the kernel?
    Plan,
    /// Does this host forward packets to its containers in this pool's prefix? In the primary one, if none is named. Also those
    /// that arrive from another node?
    Host(Option<PoolName>, Option<Arriving>),
    /// How many probes has this host received?
    Received,
    /// Is the agent connected?
    Presence,
    /// Which containers are on this host?
    Containers(Filter),
    /// What does this host answer neighbour solicitations for?
    Ndp(Wanted),
    /// Does the first hop of the path to this bridge address of the node work?
    Path(NodeName, Ipv6Addr),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The pending changes.
    Plan(Preview),
    /// The checks of the host.
    Host(HostReport),
    /// The number of received probes.
    Received(Received),
    /// The agent is connected.
    Presence,
    /// The containers.
    Containers(Containers),
    /// What neighbour solicitations are answered for.
    Ndp(NdpProxy),
    /// The checks of the path.
    Path(PathReport),
}

/// A source of answers.
pub(crate) trait Answers: Send + Sync {
    /// The answer, or the reason why there is none. Cancel safe.
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>>;
}

/// The question; none if this agent does not support it, or cannot read it.
pub(super) fn parse(question: &v1::Question) -> Option<Question> {
    match question.about.as_ref()? {
        v1::question::About::Plan(_) => Some(Question::Plan),
        v1::question::About::Presence(_) => Some(Question::Presence),
        v1::question::About::Host(host) if host.only_count => Some(Question::Received),
        v1::question::About::Host(host) => {
            let pool = (!host.pool.is_empty()).then(|| parse_text("pool", &host.pool)).transpose().ok()?;
            Some(Question::Host(pool, arriving(host)?))
        }
        v1::question::About::Containers(it) => {
            let address = (!it.address.is_empty()).then(|| address(&it.address)).transpose().ok()?;
            let name = (!it.name.is_empty()).then(|| it.name.clone());
            Some(Question::Containers(Filter { address, name }))
        }
        v1::question::About::Ndp(it) if it.address.is_empty() => {
            Some(Question::Ndp(if it.addresses { Wanted::All } else { Wanted::Counts }))
        }
        v1::question::About::Ndp(it) => Some(Question::Ndp(Wanted::One(address(&it.address).ok()?))),
        v1::question::About::Way(way) => {
            Some(Question::Path(parse_text("node", &way.node).ok()?, address(&way.address).ok()?))
        }
    }
}

/// The packets that a question names; nothing if it cannot be read.
fn arriving(host: &v1::HostQuestion) -> Option<Option<Arriving>> {
    if host.from.is_empty() {
        return Some(None);
    }
    let to = (!host.to.is_empty()).then(|| address(&host.to)).transpose().ok()?;
    Some(Some(Arriving { from: address(&host.from).ok()?, to }))
}

/// The answer to question `id`.
pub(super) fn message(id: u64, answer: Result<Answer, String>) -> v1::Answer {
    let about = match answer {
        Ok(Answer::Presence) => About::Presence(v1::Presence {}),
        Ok(Answer::Plan(preview)) => About::Plan(plan(preview)),
        Ok(Answer::Host(report)) => About::Host(host(report)),
        Ok(Answer::Received(received)) => About::Host(counts(received)),
        Ok(Answer::Containers(found)) => About::Containers((&found).into()),
        Ok(Answer::Ndp(it)) => About::Ndp((&it).into()),
        Ok(Answer::Path(report)) => About::Way(path(report)),
        Err(why) => About::Failed(why),
    };
    v1::Answer { id, about: Some(about) }
}

fn plan(preview: Preview) -> v1::Plan {
    v1::Plan {
        paused: preview.paused,
        revision: preview.revision.0,
        changes: preview.changes.into_iter().map(planned_change).collect(),
        more: preview.more as u64,
    }
}

fn planned_change(pending: Pending) -> v1::PlannedChange {
    use v1::planned_change::Action;
    let action = match pending.change {
        Change::Add(_) => Action::Add,
        Change::Replace(_) => Action::Replace,
        Change::Delete(_) => Action::Delete,
    };
    v1::PlannedChange {
        action: action.into(),
        destination: Some(pending.change.route().key.destination.into()),
        route: pending.route,
        why: pending.why,
        waits: pending.waits.unwrap_or_default(),
    }
}

fn host(report: HostReport) -> v1::HostLook {
    v1::HostLook {
        bridge_address: report.bridge_address.map(octets).unwrap_or_default(),
        checks: report.checks.into_iter().map(check).collect(),
        arriving: report.arriving.into_iter().map(check).collect(),
        ..counts(report.received)
    }
}

fn counts(received: Received) -> v1::HostLook {
    let Received { echo_requests, stray_datagrams } = received;
    v1::HostLook { echo_requests, stray_datagrams, ..v1::HostLook::default() }
}

fn path(report: PathReport) -> v1::WayLook {
    v1::WayLook { checks: report.checks.into_iter().map(check).collect(), probe: Some(probe(report.probe)) }
}

fn check(check: Check) -> v1::Check {
    use v1::check::State as S;
    let state = match check.state {
        State::Good => S::Good,
        State::Doubtful => S::Doubtful,
        State::Broken => S::Broken,
        State::Unknown => S::Unspecified,
    };
    v1::Check { what: check.what.into(), state: state.into(), saw: check.saw, fix: check.fix }
}

fn probe(probe: Probe) -> v1::Probe {
    let kind = match probe.kind {
        Some(Kind::Echo) => v1::probe::Kind::Echo,
        Some(Kind::StrayDatagram) => v1::probe::Kind::StrayDatagram,
        None => v1::probe::Kind::Unspecified,
    };
    let micros = |time: &std::time::Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let error = probe.error.as_ref();
    v1::Probe {
        kind: kind.into(),
        source: probe.source.map(octets).unwrap_or_default(),
        target: octets(probe.target),
        sent: probe.sent as u32,
        answered_us: probe.answered.iter().map(micros).collect(),
        error: error.map(|it| it.text.clone()).unwrap_or_default(),
        error_from: error.and_then(|it| it.from).map(octets).unwrap_or_default(),
        fix: error.map(|it| it.fix.to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(about: v1::question::About) -> Option<Question> {
        parse(&v1::Question { id: 1, about: Some(about) })
    }

    #[test]
    fn unreadable_and_unsupported_questions_are_none() {
        let way = |node: &str, octets: &'static [u8]| {
            question(v1::question::About::Way(v1::WayQuestion {
                node: node.into(),
                address: bytes::Bytes::from_static(octets),
            }))
        };
        assert!(matches!(way("h2", &[0; 16]), Some(Question::Path(node, _)) if node.as_str() == "h2"));
        assert_eq!((way("h/2", &[0; 16]), way("h2", &[0; 4])), (None, None));
        let host = |only_count, pool: &str| {
            question(v1::question::About::Host(v1::HostQuestion {
                only_count,
                pool: pool.into(),
                ..v1::HostQuestion::default()
            }))
        };
        let plain = Some(Question::Host(None, None));
        assert_eq!((host(true, ""), host(false, "")), (Some(Question::Received), plain));
        assert_eq!(host(false, "ula"), Some(Question::Host(Some("ula".parse().unwrap()), None)));
        assert_eq!(host(false, "u/la"), None);
        let from = |from: &'static [u8], to: &'static [u8]| {
            let (from, to) = (bytes::Bytes::from_static(from), bytes::Bytes::from_static(to));
            question(v1::question::About::Host(v1::HostQuestion { from, to, ..v1::HostQuestion::default() }))
        };
        let any = Ipv6Addr::UNSPECIFIED;
        assert_eq!(from(&[0; 16], &[]), Some(Question::Host(None, Some(Arriving { from: any, to: None }))));
        assert_eq!(
            from(&[0; 16], &[0; 16]),
            Some(Question::Host(None, Some(Arriving { from: any, to: Some(any) })))
        );
        assert_eq!((from(&[0; 4], &[]), from(&[0; 16], &[0; 4])), (None, None));
        let ndp = |addresses, address: &'static [u8]| {
            let address = bytes::Bytes::from_static(address);
            question(v1::question::About::Ndp(v1::NdpQuestion { addresses, address }))
        };
        assert_eq!(ndp(false, &[]), Some(Question::Ndp(Wanted::Counts)));
        assert_eq!(ndp(true, &[]), Some(Question::Ndp(Wanted::All)));
        assert_eq!(ndp(false, &[0; 16]), Some(Question::Ndp(Wanted::One(any))));
        assert_eq!(ndp(false, &[0; 4]), None);
        assert_eq!(parse(&v1::Question { id: 1, about: None }), None, "of a newer version");
    }
}
