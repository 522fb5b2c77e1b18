//! Operators' questions and their answers, and both as messages.

use std::net::Ipv6Addr;

use futures::future::BoxFuture;
use sextant_proto::{
    NodeName,
    convert::{address, octets, parse as parse_text},
    v1::{self, answer::About},
};

use crate::{
    engine::{Pending, Preview},
    kernel::Change,
    trace::{Check, HostLook, Kind, Probe, Received, State, WayLook},
};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// What would change in the kernel now?
    Plan,
    /// Does this host take and forward what comes for its containers?
    Host,
    /// How many probes have arrived here so far?
    Received,
    /// Is the agent there?
    Presence,
    /// How does the way to this bridge address of that node begin?
    Way(NodeName, Ipv6Addr),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What would change.
    Plan(Preview),
    /// How the host is.
    Host(HostLook),
    /// How many have arrived.
    Received(Received),
    /// It is there.
    Presence,
    /// How the way is.
    Way(WayLook),
}

/// A source of answers.
pub(crate) trait Answers: Send + Sync {
    /// The answer, or why there is none. Cancel safe.
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>>;
}

/// The question; none if this agent does not know such a one, or cannot read it.
pub(super) fn parse(question: &v1::Question) -> Option<Question> {
    match question.about.as_ref()? {
        v1::question::About::Plan(_) => Some(Question::Plan),
        v1::question::About::Presence(_) => Some(Question::Presence),
        v1::question::About::Host(host) if host.only_count => Some(Question::Received),
        v1::question::About::Host(_) => Some(Question::Host),
        v1::question::About::Way(way) => {
            Some(Question::Way(parse_text("node", &way.node).ok()?, address(&way.address).ok()?))
        }
    }
}

/// The answer to question `id`.
pub(super) fn message(id: u64, answer: Result<Answer, String>) -> v1::Answer {
    let about = match answer {
        Ok(Answer::Presence) => About::Presence(v1::Presence {}),
        Ok(Answer::Plan(preview)) => About::Plan(plan(preview)),
        Ok(Answer::Host(look)) => About::Host(host(look)),
        Ok(Answer::Received(received)) => About::Host(counts(received)),
        Ok(Answer::Way(look)) => About::Way(way(look)),
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

fn host(look: HostLook) -> v1::HostLook {
    v1::HostLook {
        bridge_address: look.bridge_address.map(octets).unwrap_or_default(),
        checks: look.checks.into_iter().map(check).collect(),
        ..counts(look.received)
    }
}

fn counts(received: Received) -> v1::HostLook {
    let Received { echo_requests, stray_datagrams } = received;
    v1::HostLook { echo_requests, stray_datagrams, ..v1::HostLook::default() }
}

fn way(look: WayLook) -> v1::WayLook {
    v1::WayLook { checks: look.checks.into_iter().map(check).collect(), probe: Some(probe(look.probe)) }
}

fn check(check: Check) -> v1::Check {
    use v1::check::State as S;
    let state = match check.state {
        State::Good => S::Good,
        State::Doubtful => S::Doubtful,
        State::Broken => S::Broken,
        State::Silent => S::Unspecified,
    };
    v1::Check { what: check.what.into(), state: state.into(), saw: check.saw, mend: check.mend }
}

fn probe(probe: Probe) -> v1::Probe {
    let kind = match probe.kind {
        Some(Kind::Echo) => v1::probe::Kind::Echo,
        Some(Kind::StrayDatagram) => v1::probe::Kind::StrayDatagram,
        None => v1::probe::Kind::Unspecified,
    };
    let micros = |time: &std::time::Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let trouble = probe.trouble.as_ref();
    v1::Probe {
        kind: kind.into(),
        source: probe.source.map(octets).unwrap_or_default(),
        target: octets(probe.target),
        sent: probe.sent as u32,
        answered_us: probe.answered.iter().map(micros).collect(),
        error: trouble.map(|it| it.what.clone()).unwrap_or_default(),
        error_from: trouble.and_then(|it| it.from).map(octets).unwrap_or_default(),
        mend: trouble.map(|it| it.mend.to_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(about: v1::question::About) -> Option<Question> {
        parse(&v1::Question { id: 1, about: Some(about) })
    }

    #[test]
    fn what_cannot_be_read_is_no_question_of_ours() {
        let way = |node: &str, octets: &'static [u8]| {
            question(v1::question::About::Way(v1::WayQuestion {
                node: node.into(),
                address: bytes::Bytes::from_static(octets),
            }))
        };
        assert!(matches!(way("h2", &[0; 16]), Some(Question::Way(node, _)) if node.as_str() == "h2"));
        assert_eq!((way("h/2", &[0; 16]), way("h2", &[0; 4])), (None, None));
        let host = |only_count| question(v1::question::About::Host(v1::HostQuestion { only_count }));
        assert_eq!((host(true), host(false)), (Some(Question::Received), Some(Question::Host)));
        assert_eq!(parse(&v1::Question { id: 1, about: None }), None, "a later version's");
    }
}
