//! The way between two nodes.

use serde_json::{Value, json};
use sextant_proto::{
    NodeName,
    convert::{MessageError, all, parse},
    v1,
};

use super::{args::Output, failure::Failure, link::Link, show, show::Show, text};
use sextant_proto::trace::{Check, Direction, Kind, Probe, State, Verdict};

/// Both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) directions: Vec<Direction>,
    /// Agents that did not answer, and why, with the mend.
    pub(super) unasked: Vec<(NodeName, String)>,
}

/// `sextant trace FROM TO`. What was seen is shown in any case.
pub(super) async fn trace(
    link: &mut Link,
    output: Output,
    from: &NodeName,
    to: &NodeName,
) -> Result<(), Failure> {
    if from == to {
        return Err(Failure::Usage(format!("both nodes are \"{from}\"; name two nodes")));
    }
    let trace = Trace::new(link.trace(from, to).await?)?;
    show::print(output, &trace)?;
    trace.verdict()
}

impl Trace {
    fn new(message: v1::TraceResponse) -> Result<Self, MessageError> {
        let unasked = message.unasked.into_iter();
        Ok(Self {
            directions: all("directions", message.directions)?,
            unasked: unasked
                .map(|it| Ok((parse("node", &it.node)?, it.why)))
                .collect::<Result<_, MessageError>>()?,
        })
    }

    /// How the command ends.
    fn verdict(&self) -> Result<(), Failure> {
        if let Some((_, why)) = self.unasked.first() {
            return Err(Failure::Unavailable(format!("only half of it was looked at: {why}")));
        }
        let not_working: Vec<_> = self.directions.iter().filter(|it| it.verdict != Verdict::Works).collect();
        match not_working[..] {
            [] => Ok(()),
            [Direction { from, to, .. }] => Err(Failure::Failed(format!("the way {from} → {to} is broken"))),
            _ => Err(Failure::Failed("the way is broken in both directions".to_owned())),
        }
    }
}

impl Show for Trace {
    fn text(&self, _now_unix_ms: u64) -> String {
        text::trace(self)
    }

    fn json(&self) -> Value {
        let unasked = |(node, why): &(NodeName, String)| json!({ "node": node.as_str(), "why": why });
        json!({
            "directions": self.directions.iter().map(direction).collect::<Value>(),
            "unasked": self.unasked.iter().map(unasked).collect::<Value>(),
        })
    }
}

fn direction(it: &Direction) -> Value {
    let verdict = match it.verdict {
        Verdict::Works => "works",
        Verdict::Broken => "broken",
        Verdict::Unknown => "unknown",
    };
    let checks = it.checks.iter();
    json!({
        "from": it.from.as_str(),
        "to": it.to.as_str(),
        "verdict": verdict,
        "at": it.at.as_ref().map(NodeName::as_str),
        "why": filled(&it.why),
        "mend": filled(&it.mend),
        "checks": checks.map(|(node, it)| check(node, it)).collect::<Value>(),
        "probe": it.probe.as_ref().map(probe),
        "arrived": it.arrived,
    })
}

fn check(node: &NodeName, check: &Check) -> Value {
    let state = match check.state {
        State::Good => "good",
        State::Doubtful => "doubtful",
        State::Broken => "broken",
        State::Silent => "unknown",
    };
    let Check { what, saw, mend, .. } = check;
    json!({ "node": node.as_str(), "what": what, "state": state, "saw": saw, "mend": filled(mend) })
}

fn probe(probe: &Probe) -> Value {
    let kind = match probe.kind {
        Kind::None => None,
        Kind::Echo => Some("icmpv6_echo"),
        Kind::StrayDatagram => Some("udp"),
    };
    let error = probe.error.as_ref();
    json!({
        "kind": kind,
        "source": probe.source.map(|source| source.to_string()),
        "target": probe.target.to_string(),
        "sent": probe.sent,
        "answered_us": probe.answered.iter().map(|it| it.as_micros() as u64).collect::<Vec<_>>(),
        "error": error.map(|error| &error.what),
        "error_from": error.and_then(|error| error.from).map(|from| from.to_string()),
    })
}

fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// One that works, and one that does not.
    pub(in super::super) fn sample() -> Trace {
        let (h1, h2): (NodeName, NodeName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
        let check = |what: &str, state, saw: &str, mend: &str| Check {
            what: what.into(),
            state,
            saw: saw.into(),
            mend: mend.into(),
        };
        let probe = Probe {
            kind: Kind::Echo,
            source: "2001:db8:8000:1::1".parse().ok(),
            target: "2001:db8:8000:2::1".parse().unwrap(),
            sent: 3,
            answered: [80, 200, 110].map(Duration::from_micros).to_vec(),
            error: None,
        };
        let works = Direction {
            from: h1.clone(),
            to: h2.clone(),
            verdict: Verdict::Works,
            at: None,
            why: String::new(),
            mend: String::new(),
            checks: vec![(h1.clone(), check("bridge", State::Good, "docker0 has 2001:db8:8000:1::1/80", ""))],
            probe: Some(probe.clone()),
            arrived: Some(3),
        };
        let mend = "on h2: ip -6 rule del pref 100";
        let broken = Direction {
            from: h2.clone(),
            to: h1,
            verdict: Verdict::Broken,
            at: Some(h2.clone()),
            why: "ip -6 rule 100 decides".into(),
            mend: mend.into(),
            checks: vec![(h2, check("route", State::Broken, "ip -6 rule 100 decides", mend))],
            probe: Some(Probe { answered: vec![], ..probe }),
            arrived: Some(0),
        };
        Trace { directions: vec![works, broken], unasked: vec![] }
    }

    #[test]
    fn the_exit_code_is_the_worst_of_both_directions() {
        let mut trace = sample();
        let failure = trace.verdict().unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string().as_str()), (1, "the way h2 → h1 is broken"));
        trace.directions[1].verdict = Verdict::Works;
        assert!(trace.verdict().is_ok());
        trace.unasked.push(("h2".parse().unwrap(), "no agent of node \"h2\" is connected".into()));
        assert_eq!(trace.verdict().unwrap_err().exit_code(), 5);
    }

    #[test]
    fn programs_see_all_of_it() {
        let value = sample().json();
        let (works, broken) = (&value["directions"][0], &value["directions"][1]);
        assert_eq!((&works["verdict"], &works["mend"]), (&json!("works"), &Value::Null));
        assert_eq!(works["probe"]["answered_us"], json!([80, 200, 110]));
        assert_eq!((&broken["at"], &broken["arrived"]), (&json!("h2"), &json!(0)));
        assert_eq!(broken["checks"][0]["state"], json!("broken"));
    }
}
