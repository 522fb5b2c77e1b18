//! The verdict on one direction. Pure.
//!
//! A missing answer to an echo request does not show which direction lost a packet: the request or the answer may be lost. The
//! number of requests that the other end received shows it. So each direction is judged by the requests that were sent in it.

use std::net::Ipv6Addr;

use sextant_proto::{
    NodeName,
    trace::{Check, Direction, State, Verdict},
};

use super::Half;

/// The check of the state of the peer, by the agent at the other end.
const PEER: &str = "peer";

/// One end of the path.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its node.
    pub node: &'a NodeName,
    /// The observations of its agent.
    pub half: &'a Half,
}

/// The evidence of the probes for the direction that they were sent in.
enum Evidence<'a> {
    /// All arrived.
    Arrived,
    /// Some did not arrive, or an error was received.
    Lost { at: Option<NodeName>, why: String, fix: &'a str },
    /// They were not answered; it is unknown whether they arrived.
    Unanswered,
    /// None was sent.
    None,
}

/// The verdict on the direction `from` one end `to` the other. `arrived` is the number of probes of the first end that the second
/// has received, if known; `node_of` returns the node of an address.
pub fn judge(
    from: End<'_>,
    to: End<'_>,
    arrived: Option<u32>,
    node_of: impl Fn(Ipv6Addr) -> Option<NodeName>,
) -> Direction {
    let at = |end: End<'_>, checks: &[Check]| -> Vec<_> {
        checks.iter().map(|check| (end.node.clone(), check.clone())).collect()
    };
    let (hosts, path) = ([at(from, &from.half.host), at(to, &to.half.host)], at(from, &from.half.path));
    let arriving = at(to, &to.half.arriving);
    let evidence = evidence(from, arrived, to, &node_of);
    // If all probes arrived, the path works whatever its checks report. Probes do not test the hosts' settings for containers.
    let of_path = if matches!(evidence, Evidence::Arrived) { &[][..] } else { &path };
    let is_broken = |it: &&(NodeName, Check)| it.1.state == State::Broken;
    // The peer is not ready because of what its own host found.
    let of_peer = hosts[1].iter().find(is_broken);
    let is_cause = |it: &&(NodeName, Check)| is_broken(it) && (it.1.what != PEER || of_peer.is_none());
    let first =
        hosts[0].iter().chain(of_path).find(is_cause).or(of_peer).or_else(|| arriving.iter().find(is_broken));
    let (verdict, at, why, fix) = match (first, &evidence) {
        (Some((node, check)), _) => {
            (Verdict::Broken, Some(node.clone()), check.saw.clone(), check.fix.clone())
        }
        (None, Evidence::Lost { at, why, fix }) => {
            let fix = if fix.is_empty() { find_drops(from, to) } else { (*fix).to_owned() };
            (Verdict::Broken, at.clone(), why.clone(), fix)
        }
        (None, Evidence::Arrived) => (Verdict::Works, None, String::new(), String::new()),
        (None, evidence) => without_count(from, to, evidence),
    };
    let [mut checks, last] = hosts;
    checks.extend(path);
    checks.extend(last);
    checks.extend(arriving);
    let (probe, (from, to)) = (from.half.probe.clone(), (from.node.clone(), to.node.clone()));
    Direction {
        from,
        to,
        from_container: None,
        to_container: None,
        pool: None,
        verdict,
        at,
        why,
        fix,
        checks,
        probe,
        arrived,
    }
}

fn evidence<'a>(
    from: End<'a>,
    arrived: Option<u32>,
    to: End<'_>,
    node_of: &impl Fn(Ipv6Addr) -> Option<NodeName>,
) -> Evidence<'a> {
    let Some(probe) = &from.half.probe else { return Evidence::None };
    let answered = probe.answered.len() as u32;
    if answered < probe.sent.max(1)
        && let Some(error) = &probe.error
    {
        let (at, by) = match error.from.map(|by| (by, node_of(by))) {
            None => (Some(from.node.clone()), String::new()),
            Some((by, None)) => (None, format!(", by {by}")),
            Some((by, Some(node))) => (Some(node.clone()), format!(", by {node} ({by})")),
        };
        return Evidence::Lost { at, why: format!("{}{by}", error.what), fix: &error.fix };
    }
    match arrived {
        _ if probe.sent == 0 => Evidence::None,
        _ if answered == probe.sent => Evidence::Arrived,
        Some(arrived) if arrived.max(answered) >= probe.sent => Evidence::Arrived,
        Some(arrived) => {
            let (arrived, sent) = (arrived.max(answered), probe.sent);
            let why = format!("{arrived} of {sent} probes arrived at {}", to.node);
            Evidence::Lost { at: None, why, fix: "" }
        }
        None => Evidence::Unanswered,
    }
}

/// The verdict without a count of received probes: by the probes of the other end.
fn without_count(
    from: End<'_>,
    to: End<'_>,
    evidence: &Evidence<'_>,
) -> (Verdict, Option<NodeName>, String, String) {
    let back = to.half.probe.as_ref();
    // Their answers took this direction.
    if back.is_some_and(|probe| probe.sent > 0 && probe.answered.len() == probe.sent as usize) {
        let why = format!("answers to the probes of {} arrived in this direction", to.node);
        return (Verdict::Works, None, why, String::new());
    }
    match evidence {
        Evidence::Unanswered => {
            let why = match to.half.missing {
                Some(_) => format!(
                    "no probe was answered; without the agent of {}, it is unknown whether the probes or their answers were lost",
                    to.node
                ),
                None => format!(
                    "no probe was answered; probes to a container are not counted on {}, so it is unknown whether they or their \
                     answers were lost",
                    to.node
                ),
            };
            (Verdict::Broken, None, why, find_drops(from, to))
        }
        _ => {
            let why = from.half.missing.clone().unwrap_or_else(|| "no probe could be sent".to_owned());
            (Verdict::Unknown, None, why, String::new())
        }
    }
}

/// How to find dropped packets between two hosts without a failed check.
fn find_drops(from: End<'_>, to: End<'_>) -> String {
    let (from, to) = (from.node, to.node);
    format!(
        "on {from} and {to}: nft list ruleset (what drops ICMPv6?), and tcpdump -n icmp6 on their uplinks while you trace again"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_proto::trace::{Kind, Probe, ProbeError};

    use super::*;

    fn check(what: &str, state: State) -> Check {
        Check { what: what.into(), state, saw: format!("{what} seen"), fix: format!("fix the {what}") }
    }

    fn half(answered: usize) -> Half {
        let probe = Probe {
            kind: Kind::Echo,
            source: "2001:db8:1::1".parse().ok(),
            target: "2001:db8:2::1".parse().unwrap(),
            sent: 3,
            answered: vec![Duration::from_micros(80); answered],
            error: None,
        };
        Half {
            host: vec![check("bridge", State::Good)],
            arriving: vec![check("policy", State::Good)],
            path: vec![check("route", State::Good)],
            probe: Some(probe),
            missing: None,
        }
    }

    /// Verdict, where, and why, of h1 → h2.
    fn judged(from: &Half, to: &Half, arrived: Option<u32>) -> (Verdict, Option<String>, String, String) {
        let (h1, h2): (NodeName, NodeName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
        let (from, to) = (End { node: &h1, half: from }, End { node: &h2, half: to });
        let of_h2 = |addr: Ipv6Addr| (addr == Ipv6Addr::LOCALHOST).then(|| h2.clone());
        let Direction { verdict, at, why, fix, .. } = judge(from, to, arrived, of_h2);
        (verdict, at.map(|at| at.to_string()), why, fix)
    }

    fn with(change: impl FnOnce(&mut Half), answered: usize) -> Half {
        let mut half = half(answered);
        change(&mut half);
        half
    }

    #[test]
    fn each_direction_is_judged_by_its_requests() {
        let works = (Verdict::Works, None, String::new(), String::new());
        assert_eq!(judged(&half(3), &half(3), Some(3)), works);
        assert_eq!(judged(&half(0), &half(0), Some(3)), works, "the answers are lost in the other direction");
        assert_eq!(judged(&half(3), &half(3), None), works);
        // Others' pings are counted too.
        assert_eq!(judged(&half(0), &half(0), Some(40)), works);
        let (verdict, at, why, fix) = judged(&half(0), &half(0), Some(0));
        assert_eq!((verdict, at, why.as_str()), (Verdict::Broken, None, "0 of 3 probes arrived at h2"));
        assert!(fix.starts_with("on h1 and h2: nft list ruleset"), "{fix}");
        assert_eq!(judged(&half(2), &half(0), Some(1)).2, "2 of 3 probes arrived at h2");
    }

    #[test]
    fn checks_explain_losses_and_do_not_count_without_losses() {
        let broken = |answered| with(|half| half.path.push(check("next hop", State::Broken)), answered);
        let expected =
            (Verdict::Broken, Some("h1".into()), "next hop seen".into(), "fix the next hop".into());
        assert_eq!(judged(&broken(0), &half(0), Some(0)), expected);
        assert_eq!(judged(&broken(3), &half(3), Some(3)).0, Verdict::Works);
        // The first failed check of the path is reported.
        let two = with(|half| half.path.insert(0, check("peer", State::Broken)), 0);
        assert_eq!(judged(&two, &half(0), Some(0)).2, "peer seen");
    }

    #[test]
    fn a_fault_that_the_peer_found_on_its_host_comes_before_its_state() {
        let unready = with(|half| half.path.insert(0, check("peer", State::Broken)), 0);
        let full = with(|half| half.host = vec![check("bridge", State::Broken)], 0);
        let cause = judged(&unready, &full, None);
        assert_eq!((cause.1.as_deref(), cause.3.as_str()), (Some("h2"), "fix the bridge"));
        let without = with(|half| half.path.push(check("route", State::Broken)), 0);
        assert_eq!(judged(&without, &full, None).3, "fix the route");
        let own = with(|half| half.host = vec![check("forwarding", State::Broken)], 0);
        assert_eq!(judged(&own, &full, None).1.as_deref(), Some("h1"));
    }

    #[test]
    fn host_checks_count_at_both_ends_even_if_probes_arrive() {
        let off = with(|half| half.host.push(check("forwarding", State::Broken)), 3);
        let (verdict, at, why, _) = judged(&half(3), &off, Some(3));
        assert_eq!((verdict, at.as_deref(), why.as_str()), (Verdict::Broken, Some("h2"), "forwarding seen"));
        assert_eq!(judged(&off, &half(3), Some(3)).1.as_deref(), Some("h1"));
        let doubtful = with(|half| half.host.push(check("firewall", State::Doubtful)), 3);
        assert_eq!(judged(&doubtful, &doubtful, Some(3)).0, Verdict::Works);
    }

    #[test]
    fn a_rule_at_the_receiving_end_counts_in_its_direction_only() {
        let taken = with(|half| half.arriving = vec![check("policy", State::Broken)], 3);
        let (verdict, at, why, _) = judged(&half(3), &taken, Some(3));
        assert_eq!((verdict, at.as_deref(), why.as_str()), (Verdict::Broken, Some("h2"), "policy seen"));
        assert_eq!(judged(&taken, &half(3), Some(3)).0, Verdict::Works);
    }

    #[test]
    fn an_error_is_reported_with_its_sender() {
        let error = |from: Option<Ipv6Addr>| {
            let what = "ICMPv6 administratively prohibited".to_owned();
            let error = ProbeError { what, from, fix: "look".into() };
            with(|half| half.probe.as_mut().unwrap().error = Some(error), 0)
        };
        assert_eq!(
            judged(&error(Some(Ipv6Addr::LOCALHOST)), &half(0), Some(0)),
            (
                Verdict::Broken,
                Some("h2".into()),
                "ICMPv6 administratively prohibited, by h2 (::1)".into(),
                "look".into()
            )
        );
        let stranger = judged(&error("2001:db8::f".parse().ok()), &half(0), Some(0));
        assert_eq!(
            (stranger.1, stranger.2.as_str()),
            (None, "ICMPv6 administratively prohibited, by 2001:db8::f")
        );
        let own = judged(&error(None), &half(0), Some(0));
        assert_eq!((own.1.as_deref(), own.2.as_str()), (Some("h1"), "ICMPv6 administratively prohibited"));
    }

    #[test]
    fn an_error_beside_answers_to_all_probes_counts_for_nothing() {
        let error = ProbeError { what: "ICMPv6 no route".into(), from: None, fix: "look".into() };
        let with_error =
            |answered| with(|half| half.probe.as_mut().unwrap().error = Some(error.clone()), answered);
        assert_eq!(judged(&with_error(3), &half(3), Some(3)).0, Verdict::Works);
        assert_eq!(judged(&with_error(2), &half(3), Some(3)).0, Verdict::Broken);
    }

    #[test]
    fn probes_that_were_not_sent_prove_nothing() {
        let unsent = with(|half| half.probe.as_mut().unwrap().sent = 0, 0);
        let (verdict, _, why, _) = judged(&unsent, &unsent, Some(0));
        assert_eq!((verdict, why.as_str()), (Verdict::Unknown, "no probe could be sent"));
        let some = with(|half| half.probe.as_mut().unwrap().sent = 2, 1);
        assert_eq!(judged(&unsent, &some, None).0, Verdict::Unknown, "one of its answers was lost");
    }

    #[test]
    fn unanswered_probes_that_nobody_counts_are_lost_somewhere() {
        let (verdict, _, why, fix) = judged(&half(0), &half(0), None);
        assert_eq!(verdict, Verdict::Broken);
        assert!(
            why.contains("probes to a container are not counted on h2") && fix.starts_with("on h1 and h2"),
            "{why}"
        );
    }

    #[test]
    fn a_missing_half_is_judged_by_the_other_one() {
        let missing = Half { missing: Some("no agent is connected".into()), ..Half::default() };
        assert_eq!(judged(&half(3), &missing, None).0, Verdict::Works);
        assert_eq!(
            judged(&missing, &half(3), None),
            (
                Verdict::Works,
                None,
                "answers to the probes of h2 arrived in this direction".into(),
                String::new()
            )
        );
        let (verdict, _, why, _) = judged(&half(0), &missing, None);
        assert_eq!(verdict, Verdict::Broken);
        assert!(why.contains("without the agent of h2, it is unknown"), "{why}");
        let (verdict, _, why, _) = judged(&missing, &half(0), None);
        assert_eq!((verdict, why.as_str()), (Verdict::Unknown, "no agent is connected"));
        let dead = with(|half| half.path.push(check("next hop", State::Broken)), 0);
        assert_eq!(judged(&dead, &missing, None).1.as_deref(), Some("h1"));
    }
}
