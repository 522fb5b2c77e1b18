//! From the answers of single next hops to verdicts on hosts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::NodeName;

use super::suspicion::Target;
use crate::{
    cluster::{Verdict, Verdicts},
    kernel::NextHop,
};

/// The key of a verdict: a node, and one of its next hops.
pub(super) type Way = (NodeName, Target);

/// The verdicts, where `seen` and `silent` are of single next hops, and the agents of `lost` are gone. A host is there if it
/// answers anywhere, and dead if it is dead everywhere.
pub(super) fn judge(
    seen: &BTreeMap<Way, Verdict>,
    silent: &BTreeSet<Way>,
    lost: &BTreeSet<NodeName>,
) -> Verdicts {
    let mut by_node: BTreeMap<&NodeName, (usize, usize, usize)> = BTreeMap::new();
    for way in seen.keys().chain(silent).collect::<BTreeSet<_>>() {
        let (ways, answering, dead) = by_node.entry(&way.0).or_default();
        *ways += 1;
        *answering += usize::from(seen.get(way) == Some(&Verdict::Forwarding) && !silent.contains(way));
        *dead += usize::from(seen.get(way) == Some(&Verdict::Dead));
    }
    let verdict = |(node, (ways, answering, dead)): (&&NodeName, &(usize, usize, usize))| {
        let seen = match () {
            () if !lost.contains(*node) => return None,
            () if *answering > 0 => Verdict::Forwarding,
            () if dead == ways => Verdict::Dead,
            // As a single way: it has answered, and does not now, and nothing is proven.
            () if seen.iter().any(|(way, seen)| way.0 == **node && *seen == Verdict::Forwarding) => {
                Verdict::Forwarding
            }
            () => return None,
        };
        Some(((*node).clone(), seen))
    };
    let elsewhere = |(node, _): &&Way| by_node.get(node).is_some_and(|(_, answering, _)| *answering > 0);
    let hop = |(_, target): &Way| NextHop { gateway: Some(target.addr), link: target.link };
    Verdicts::new(
        by_node.iter().filter_map(verdict).collect(),
        silent.iter().filter(elsewhere).map(hop).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(node: &str, link: u32) -> Way {
        let addr = format!("2001:db8:{link}::2").parse().unwrap();
        (node.parse().unwrap(), Target { link, addr })
    }

    fn hop(link: u32) -> NextHop {
        NextHop { gateway: Some(way("h2", link).1.addr), link }
    }

    #[test]
    fn a_way_is_silent_only_if_its_host_answers_elsewhere() {
        let seen = [(way("h2", 2), Verdict::Forwarding), (way("h2", 3), Verdict::Forwarding)].into();
        let told = judge(&seen, &[way("h2", 3)].into(), &BTreeSet::new());
        assert!(told.is_silent(&hop(3)) && !told.is_silent(&hop(2)));
        assert_eq!(told.iter().count(), 0, "its agent is there");
        let told = judge(&seen, &[way("h2", 3), way("h2", 2)].into(), &BTreeSet::new());
        assert!(!told.is_silent(&hop(2)) && !told.is_silent(&hop(3)), "it may be this host that is cut off");
    }

    #[test]
    fn a_host_is_dead_if_it_is_dead_everywhere() {
        let lost = BTreeSet::from(["h2".parse().unwrap()]);
        let verdict = |second: Option<Verdict>| {
            let mut seen = BTreeMap::from([(way("h2", 2), Verdict::Dead)]);
            seen.extend(second.map(|it| (way("h2", 3), it)));
            let silent = [way("h2", 2), way("h2", 3)].into_iter();
            let silent = silent.filter(|(_, target)| target.link == 2 || second != Some(Verdict::Forwarding));
            judge(&seen, &silent.collect(), &lost).get(&"h2".parse().unwrap()).copied()
        };
        assert_eq!(verdict(Some(Verdict::Dead)), Some(Verdict::Dead));
        assert_eq!(verdict(Some(Verdict::Forwarding)), Some(Verdict::Forwarding));
        assert_eq!(verdict(None), None, "no answer and no verdict on the second link");
    }
}
