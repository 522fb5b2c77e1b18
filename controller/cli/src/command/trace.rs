//! The way between two nodes.

use serde_json::{Value, json};
use sextant_proto::{
    NodeName,
    trace::{Check, Direction, Kind, Probe, State, Verdict},
};

use crate::{
    answer::Trace,
    args::Output,
    failure::Failure,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant trace FROM TO`. What was seen is shown in any case.
pub(crate) async fn trace(
    link: &mut Link,
    output: Output,
    from: &NodeName,
    to: &NodeName,
) -> Result<(), Failure> {
    if from == to {
        return Err(Failure::Usage(format!("both nodes are \"{from}\"; name two nodes")));
    }
    let trace = Trace::try_from(link.trace(from, to).await?)?;
    show::print(output, &trace)?;
    verdict(&trace)
}

/// How the command ends.
fn verdict(trace: &Trace) -> Result<(), Failure> {
    if let Some((_, why)) = trace.unasked.first() {
        return Err(Failure::Unavailable(format!("only half of it was looked at: {why}")));
    }
    let not_working: Vec<_> = trace.directions.iter().filter(|it| it.verdict != Verdict::Works).collect();
    match not_working[..] {
        [] => Ok(()),
        [Direction { from, to, .. }] => Err(Failure::Failed(format!("the way {from} → {to} is broken"))),
        _ => Err(Failure::Failed("the way is broken in both directions".to_owned())),
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
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn the_exit_code_is_the_worst_of_both_directions() {
        let mut trace = sample::trace();
        let failure = verdict(&trace).unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string().as_str()), (1, "the way h2 → h1 is broken"));
        trace.directions[1].verdict = Verdict::Works;
        assert!(verdict(&trace).is_ok());
        trace.unasked.push(("h2".parse().unwrap(), "no agent of node \"h2\" is connected".into()));
        assert_eq!(verdict(&trace).unwrap_err().exit_code(), 5);
    }

    #[test]
    fn programs_see_all_of_it() {
        let value = sample::trace().json();
        let (works, broken) = (&value["directions"][0], &value["directions"][1]);
        assert_eq!((&works["verdict"], &works["mend"]), (&json!("works"), &Value::Null));
        assert_eq!(works["probe"]["answered_us"], json!([80, 200, 110]));
        assert_eq!((&broken["at"], &broken["arrived"]), (&json!("h2"), &json!(0)));
        assert_eq!(broken["checks"][0]["state"], json!("broken"));
    }
}
