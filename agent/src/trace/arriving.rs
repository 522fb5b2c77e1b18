//! Checks which rule of the routing policy takes packets that arrive from another node. Pure.
//!
//! Probes go to an address of the host itself, which the kernel finds before it evaluates such a rule: packets to containers may fare
//! otherwise.

use sextant_proto::NodeName;

use super::{Check, State};
use crate::{
    engine::{Arriving, TakenPackets},
    problems::Finding,
};

/// The check of packets that arrive, by the rules that take them.
pub(super) fn check(here: &NodeName, packets: Arriving, taken: &[TakenPackets]) -> Check {
    let Some(first) = taken.iter().find(|it| it.all).or(taken.first()) else {
        let to = packets.to.map_or_else(|| "containers".to_owned(), |to| to.to_string());
        let saw = format!("no rule of the routing policy takes packets from {} to {to}", packets.from);
        return Check::new("policy", State::Good, saw);
    };
    let Finding { saw, fix, .. } = &first.finding;
    let state = if first.all { State::Broken } else { State::Doubtful };
    Check { fix: format!("on {here}: {fix}"), ..Check::new("policy", state, saw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_all_of_the_packets_is_a_fault_and_one_for_some_may_be() {
        let taken = |saw: &str, all| TakenPackets { finding: Finding::new("policy-rule", saw, "fix"), all };
        let packets = Arriving { from: "2001:db8:2::1".parse().unwrap(), to: None };
        let of = |taken: &[TakenPackets]| {
            let check = check(&"h1".parse().unwrap(), packets, taken);
            (check.state, check.saw, check.fix)
        };
        let (some, all) = (taken("some", false), taken("all", true));
        assert_eq!(of(&[some.clone(), all]), (State::Broken, "all".into(), "on h1: fix".into()));
        assert_eq!(of(&[some]), (State::Doubtful, "some".into(), "on h1: fix".into()));
        let none = of(&[]);
        assert!(
            none.0 == State::Good && none.1.ends_with("packets from 2001:db8:2::1 to containers"),
            "{none:?}"
        );
    }
}
