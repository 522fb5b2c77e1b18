//! Checks whether neighbours on the link reach this host's containers (topology `ndp-proxy`). Pure.
//!
//! Packets between nodes take direct routes, which need no answer to a solicitation: nothing here decides on a path between nodes.

use sextant_proto::{
    NodeName, Problem, counted,
    ndp::{By, NdpAddress, NdpProxy},
};

use super::{Check, State};

const WHAT: &str = "neighbour proxy";
const ALL_THE_SAME: &str = "direct routes between nodes hold all the same";

/// The check, by what the host answers for, which names the address of a container if there is one, and by its problems.
pub(crate) fn check(here: &NodeName, report: &NdpProxy, problems: &[Problem]) -> Check {
    if let Some(problem) = problems.first() {
        return doubtful(here, &problem.saw, &problem.fix);
    }
    let on: Vec<_> = report.uplinks.iter().filter(|it| it.up).map(|it| it.interface.as_str()).collect();
    match report.addresses.first() {
        Some(NdpAddress { address, by: By::Nobody, why, fix, .. }) => {
            doubtful(here, &format!("nobody answers for {address} on the link: {why}"), fix)
        }
        Some(NdpAddress { address, by, .. }) => {
            let saw = format!("the {} answers for {address} on {}", by.text(), on.join(" and "));
            Check::new(WHAT, State::Good, saw)
        }
        None => {
            let count = counted(report.in_use as usize, "address");
            Check::new(WHAT, State::Good, format!("answers for {count} on {}", on.join(" and ")))
        }
    }
}

fn doubtful(here: &NodeName, saw: &str, fix: &str) -> Check {
    let fix = if fix.is_empty() { String::new() } else { format!("on {here}: {fix}") };
    Check { fix, ..Check::new(WHAT, State::Doubtful, format!("{saw}; {ALL_THE_SAME}")) }
}

#[cfg(test)]
mod tests {
    use sextant_proto::ndp::NdpUplink;

    use super::*;

    #[test]
    fn what_keeps_others_on_the_link_away_does_not_break_a_path_between_nodes() {
        let uplink = NdpUplink { interface: "eth0".into(), up: true, ..NdpUplink::default() };
        let report = NdpProxy { uplinks: vec![uplink], in_use: 2, ..NdpProxy::default() };
        let seen = |report: &NdpProxy, problems: &[Problem]| {
            let Check { state, saw, fix, .. } = check(&"h1".parse().unwrap(), report, problems);
            (state, saw, fix)
        };
        let good = |saw: &str| (State::Good, saw.to_owned(), String::new());
        assert_eq!(seen(&report, &[]), good("answers for 2 addresses on eth0"));
        let address = NdpAddress {
            address: "2001:db8::c003".parse().unwrap(),
            learnt: None,
            container: None,
            mac: None,
            since_unix_ms: 0,
            by: By::Kernel,
            why: String::new(),
            fix: String::new(),
        };
        let one = NdpProxy { addresses: vec![address.clone()], ..report.clone() };
        assert_eq!(seen(&one, &[]), good("the kernel answers for 2001:db8::c003 on eth0"));
        let nobody = NdpAddress { by: By::Nobody, why: "not in use here".into(), ..address };
        let (state, saw, _) = seen(&NdpProxy { addresses: vec![nobody], ..report.clone() }, &[]);
        assert_eq!(state, State::Doubtful);
        assert!(
            saw.starts_with("nobody answers for 2001:db8::c003 on the link: not in use here; direct"),
            "{saw}"
        );
        let problem =
            Problem { what: "ndp-not-heard".into(), saw: "no".into(), fix: "do".into(), since_unix_ms: 1 };
        let (state, saw, fix) = seen(&report, &[problem]);
        assert_eq!((state, fix.as_str()), (State::Doubtful, "on h1: do"));
        assert!(saw.starts_with("no; direct routes"), "{saw}");
    }
}
