//! The path between two nodes for people.

use std::time::Duration;

use sextant_proto::{
    NodeName,
    trace::{Check, Direction, Kind, Probe, State, Verdict},
};

use super::{one_line, table};
use crate::answer::Trace;

/// Both directions: the verdict first, the fix next, then the observations.
pub(crate) fn trace(trace: &Trace) -> String {
    let mut parts: Vec<_> = trace.directions.iter().map(direction).collect();
    parts.extend(trace.unasked.iter().map(|(node, why)| format!("{node}: not checked: {}\n", one_line(why))));
    parts.join("\n")
}

fn direction(it: &Direction) -> String {
    let (verdict, at) = match (it.verdict, &it.at) {
        (Verdict::Works, _) => ("works", String::new()),
        (Verdict::Unknown, _) => ("unknown", String::new()),
        (Verdict::Broken, Some(at)) => ("BROKEN", format!(" at {at}")),
        (Verdict::Broken, None) => ("BROKEN", " between the nodes".to_owned()),
    };
    let why = if it.why.is_empty() { String::new() } else { format!(": {}", one_line(&it.why)) };
    let fix = if it.fix.is_empty() { String::new() } else { format!("fix: {}\n", one_line(&it.fix)) };
    let rows = it.checks.iter().map(|(node, check)| row(node, check));
    let probe = it.probe.as_ref().map(|probe| probe_row(it, probe));
    let seen: Vec<_> = rows.chain(probe).collect();
    let seen = if seen.is_empty() {
        String::new()
    } else {
        table::table(["NODE", "CHECK", "RESULT", "OBSERVATION"], seen)
    };
    format!("{} {verdict}{at}{why}\n{fix}{seen}", path(it))
}

/// E.g. `h1 → h2`, or `h1/web → h2/db`; with the pool, if the nodes share several.
pub(crate) fn path(it: &Direction) -> String {
    let pool = it.pool.as_ref().map(|pool| format!(" in pool {pool}")).unwrap_or_default();
    format!("{} → {}{pool}", end(&it.from, it.from_container.as_ref()), end(&it.to, it.to_container.as_ref()))
}

/// A node, or NODE/CONTAINER.
fn end(node: &NodeName, container: Option<&String>) -> String {
    container.map_or_else(|| node.to_string(), |container| format!("{node}/{container}"))
}

fn row(node: &NodeName, check: &Check) -> [String; 4] {
    let state = match check.state {
        State::Good => "ok",
        State::Doubtful => "doubtful",
        State::Broken => "BROKEN",
        State::Silent => "",
    };
    [node.to_string(), check.what.clone(), state.into(), check.saw.clone()]
}

fn probe_row(it: &Direction, probe: &Probe) -> [String; 4] {
    let what = match probe.kind {
        Kind::Echo => "ping",
        Kind::StrayDatagram => "UDP probe",
        Kind::None => "probe",
    };
    let answered = probe.answered.len() as u32;
    let all = probe.sent > 0 && answered == probe.sent;
    let arrived = it.arrived.map(|arrived| arrived.max(answered));
    let is = match arrived {
        _ if all => "ok",
        Some(arrived) if probe.sent > 0 && arrived >= probe.sent && probe.error.is_none() => "ok",
        _ => "BROKEN",
    };
    let mut seen = match probe.source {
        Some(source) => format!("{source} to {}: {answered} of {} answered", probe.target, probe.sent),
        None => format!("to {}: none sent", probe.target),
    };
    seen += &times(&probe.answered);
    if let Some(arrived) = arrived.filter(|_| !all && probe.sent > 0) {
        let back = if arrived >= probe.sent { ", so the answers are lost" } else { "" };
        seen += &format!(", {arrived} arrived at {}{back}", it.to);
    }
    if let Some(error) = &probe.error {
        let by = error.from.map_or_else(String::new, |from| format!(" by {from}"));
        seen += &format!("; {}{by}", error.what);
    }
    [it.from.to_string(), what.into(), is.into(), seen]
}

/// ` in 0.08 to 0.20 ms`.
fn times(answered: &[Duration]) -> String {
    let millis = |time: &Duration| format!("{:.2}", time.as_secs_f64() * 1000.0);
    let (Some(least), Some(most)) = (answered.iter().min(), answered.iter().max()) else {
        return String::new();
    };
    let (least, most) = (millis(least), millis(most));
    if least == most { format!(" in {least} ms") } else { format!(" in {least} to {most} ms") }
}

#[cfg(test)]
mod tests {
    use sextant_proto::trace::ProbeError;

    use super::*;
    use crate::answer::sample;

    #[test]
    fn the_verdict_comes_first_and_the_fix_next() {
        assert_eq!(
            trace(&sample::trace()),
            "h1 → h2 works\n\
             NODE  CHECK   RESULT  OBSERVATION\n\
             h1    bridge  ok      docker0 has 2001:db8:8000:1::1/80\n\
             h1    ping    ok      2001:db8:8000:1::1 to 2001:db8:8000:2::1: 3 of 3 answered in 0.08 to 0.20 ms\n\
             \n\
             h2 → h1 BROKEN at h2: ip -6 rule 100 decides\n\
             fix: on h2: ip -6 rule add to 2001:db8:1::/64 lookup 254 pref 99\n\
             NODE  CHECK  RESULT  OBSERVATION\n\
             h2    route  BROKEN  ip -6 rule 100 decides\n\
             h2    ping   BROKEN  2001:db8:8000:1::1 to 2001:db8:8000:2::1: 0 of 3 answered, 0 arrived at h1\n"
        );
    }

    #[test]
    fn containers_are_named_with_their_nodes() {
        let mut it = sample::trace().directions.remove(0);
        (it.from_container, it.to_container) = (Some("web".into()), None);
        assert_eq!(path(&it), "h1/web → h2");
        it.to_container = Some("db".into());
        assert_eq!(path(&it), "h1/web → h2/db");
    }

    #[test]
    fn lost_answers_and_icmpv6_errors_are_shown() {
        let mut it = sample::trace().directions.remove(1);
        it.arrived = Some(3);
        let mut probe = it.probe.take().unwrap();
        let row = probe_row(&it, &probe);
        assert_eq!(row[2], "ok");
        assert!(row[3].ends_with("0 of 3 answered, 3 arrived at h1, so the answers are lost"), "{row:?}");
        let from = "2001:db8::2".parse().ok();
        let what = "ICMPv6 administratively prohibited".into();
        probe.error = Some(ProbeError { what, from, fix: String::new() });
        let row = probe_row(&it, &probe);
        assert!(row[3].ends_with("; ICMPv6 administratively prohibited by 2001:db8::2"), "{row:?}");
    }

    #[test]
    fn a_node_without_an_answer_is_shown() {
        let mut it = sample::trace();
        it.directions.clear();
        it.unasked = vec![("h2".parse().unwrap(), "no agent of node \"h2\" is connected".into())];
        assert_eq!(trace(&it), "h2: not checked: no agent of node \"h2\" is connected\n");
    }
}
