//! Observations of a path, and the verdict on it.

use std::{net::Ipv6Addr, time::Duration};

use super::{MessageError, address, octets, parse};
use crate::{
    quoted,
    trace::{Check, Direction, Kind, Probe, ProbeError, State, Verdict},
    v1,
};

impl From<v1::Check> for Check {
    fn from(message: v1::Check) -> Self {
        use v1::check::State as S;
        let state = match message.state() {
            S::Good => State::Good,
            S::Doubtful => State::Doubtful,
            S::Broken => State::Broken,
            S::Unspecified => State::Silent,
        };
        Self { what: message.what, state, saw: message.saw, fix: message.fix }
    }
}

impl From<&Check> for v1::Check {
    fn from(check: &Check) -> Self {
        use v1::check::State as S;
        let state = match check.state {
            State::Good => S::Good,
            State::Doubtful => S::Doubtful,
            State::Broken => S::Broken,
            State::Silent => S::Unspecified,
        };
        let Check { what, saw, fix, .. } = check.clone();
        Self { what, state: state.into(), saw, fix }
    }
}

impl TryFrom<v1::Probe> for Probe {
    type Error = MessageError;

    fn try_from(message: v1::Probe) -> Result<Self, MessageError> {
        let kind = match message.kind() {
            v1::probe::Kind::Unspecified => Kind::None,
            v1::probe::Kind::Echo => Kind::Echo,
            v1::probe::Kind::StrayDatagram => Kind::StrayDatagram,
        };
        let error = if message.error.is_empty() {
            None
        } else {
            let from = perhaps("error_from", &message.error_from)?;
            Some(ProbeError { what: message.error, from, fix: message.fix })
        };
        Ok(Self {
            kind,
            source: perhaps("source", &message.source)?,
            target: address(&message.target).map_err(|error| MessageError::new("target", error))?,
            sent: message.sent,
            answered: message.answered_us.into_iter().map(|us| Duration::from_micros(us.into())).collect(),
            error,
        })
    }
}

impl From<&Probe> for v1::Probe {
    fn from(probe: &Probe) -> Self {
        let kind = match probe.kind {
            Kind::None => v1::probe::Kind::Unspecified,
            Kind::Echo => v1::probe::Kind::Echo,
            Kind::StrayDatagram => v1::probe::Kind::StrayDatagram,
        };
        let micros = |time: &Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let error = probe.error.as_ref();
        Self {
            kind: kind.into(),
            source: probe.source.map(octets).unwrap_or_default(),
            target: octets(probe.target),
            sent: probe.sent,
            answered_us: probe.answered.iter().map(micros).collect(),
            error: error.map(|it| it.what.clone()).unwrap_or_default(),
            error_from: error.and_then(|it| it.from).map(octets).unwrap_or_default(),
            fix: error.map(|it| it.fix.clone()).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Direction> for Direction {
    type Error = MessageError;

    fn try_from(message: v1::Direction) -> Result<Self, MessageError> {
        let verdict = match message.verdict() {
            v1::direction::Verdict::Works => Verdict::Works,
            v1::direction::Verdict::Broken => Verdict::Broken,
            v1::direction::Verdict::Unspecified => Verdict::Unknown,
        };
        let at = Some(&message.at).filter(|at| !at.is_empty());
        let check = |at: v1::CheckAt| Ok((parse("node", &at.node)?, at.check.unwrap_or_default().into()));
        Ok(Self {
            from: parse("from", &message.from)?,
            to: parse("to", &message.to)?,
            from_container: named(&message.from_container),
            to_container: named(&message.to_container),
            pool: (!message.pool.is_empty()).then(|| parse("pool", &message.pool)).transpose()?,
            verdict,
            at: at.map(|at| parse("at", at)).transpose()?,
            why: message.why,
            fix: message.fix,
            checks: message.checks.into_iter().map(check).collect::<Result<_, MessageError>>()?,
            probe: message.probe.map(Probe::try_from).transpose()?,
            arrived: message.arrived,
        })
    }
}

/// The name of a container; none if it is empty.
fn named(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| quoted(name))
}

impl From<&Direction> for v1::Direction {
    fn from(it: &Direction) -> Self {
        let verdict = match it.verdict {
            Verdict::Works => v1::direction::Verdict::Works,
            Verdict::Broken => v1::direction::Verdict::Broken,
            Verdict::Unknown => v1::direction::Verdict::Unspecified,
        };
        let checks = it.checks.iter();
        Self {
            from: it.from.to_string(),
            from_container: it.from_container.clone().unwrap_or_default(),
            to_container: it.to_container.clone().unwrap_or_default(),
            to: it.to.to_string(),
            pool: it.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            verdict: verdict.into(),
            at: it.at.as_ref().map(ToString::to_string).unwrap_or_default(),
            why: it.why.clone(),
            fix: it.fix.clone(),
            checks: checks
                .map(|(node, check)| v1::CheckAt { node: node.to_string(), check: Some(check.into()) })
                .collect(),
            probe: it.probe.as_ref().map(Into::into),
            arrived: it.arrived,
        }
    }
}

/// An address that may be missing.
fn perhaps(field: &'static str, octets: &[u8]) -> Result<Option<Ipv6Addr>, MessageError> {
    let given = Some(octets).filter(|octets| !octets.is_empty());
    given.map(address).transpose().map_err(|error| MessageError::new(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_round_trips() {
        let check = Check { what: "route".into(), state: State::Broken, saw: "a".into(), fix: "b".into() };
        let error = ProbeError { what: "no".into(), from: "2001:db8::2".parse().ok(), fix: String::new() };
        let probe = Probe {
            kind: Kind::Echo,
            source: None,
            target: "2001:db8:2::1".parse().unwrap(),
            sent: 3,
            answered: vec![Duration::from_micros(70)],
            error: Some(error),
        };
        let node: crate::NodeName = "h1".parse().unwrap();
        let direction = Direction {
            from_container: None,
            to_container: Some("web".into()),
            from: node.clone(),
            to: "h2".parse().unwrap(),
            pool: Some("ula".parse().unwrap()),
            verdict: Verdict::Broken,
            at: Some(node.clone()),
            why: "why".into(),
            fix: "fix".into(),
            checks: vec![(node, check)],
            probe: Some(probe),
            arrived: Some(0),
        };
        assert_eq!(Direction::try_from(v1::Direction::from(&direction)), Ok(direction));
    }
}
