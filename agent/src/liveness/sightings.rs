//! What was seen of hosts and of the ways to them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::NodeName;

use super::{Seen, suspicion::Target};
use crate::kernel::NextHop;

/// What is told apart when asking: a node, and one of its next hops.
pub(super) type Way = (NodeName, Target);

/// What was seen; that of which nothing is known yet is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings {
    /// Of the hosts whose agents are gone.
    nodes: BTreeMap<NodeName, Seen>,
    /// The next hops that do not answer, of hosts that answer at another one.
    silent: BTreeSet<NextHop>,
}

impl Sightings {
    /// Of a host whose agent is gone.
    pub fn get(&self, node: &NodeName) -> Option<&Seen> {
        self.nodes.get(node)
    }

    /// Of all hosts whose agents are gone.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Seen)> {
        self.nodes.iter()
    }

    /// Whether the host answers elsewhere, and not there.
    pub fn is_silent(&self, hop: &NextHop) -> bool {
        self.silent.contains(hop)
    }

    /// All such.
    pub(super) fn silent(&self) -> impl Iterator<Item = &NextHop> {
        self.silent.iter()
    }

    /// What `seen` of each way and those that are `silent` mean, where the agents of `lost` are gone. A host is there if it
    /// answers anywhere, and dead if it is dead everywhere.
    pub(super) fn of(seen: &BTreeMap<Way, Seen>, silent: &BTreeSet<Way>, lost: &BTreeSet<NodeName>) -> Self {
        let mut by_node: BTreeMap<&NodeName, (usize, usize, usize)> = BTreeMap::new();
        for way in seen.keys().chain(silent).collect::<BTreeSet<_>>() {
            let (ways, answering, dead) = by_node.entry(&way.0).or_default();
            *ways += 1;
            *answering += usize::from(seen.get(way) == Some(&Seen::Forwarding) && !silent.contains(way));
            *dead += usize::from(seen.get(way) == Some(&Seen::Dead));
        }
        let verdict = |(node, (ways, answering, dead)): (&&NodeName, &(usize, usize, usize))| {
            let seen = match () {
                () if !lost.contains(*node) => return None,
                () if *answering > 0 => Seen::Forwarding,
                () if dead == ways => Seen::Dead,
                // As a single way: it has answered, and does not now, and nothing is proven.
                () if seen.iter().any(|(way, seen)| way.0 == **node && *seen == Seen::Forwarding) => {
                    Seen::Forwarding
                }
                () => return None,
            };
            Some(((*node).clone(), seen))
        };
        let elsewhere = |(node, _): &&Way| by_node.get(node).is_some_and(|(_, answering, _)| *answering > 0);
        let hop = |(_, target): &Way| NextHop { gateway: Some(target.addr), link: target.link };
        Self {
            nodes: by_node.iter().filter_map(verdict).collect(),
            silent: silent.iter().filter(elsewhere).map(hop).collect(),
        }
    }
}

impl<const N: usize> From<[(NodeName, Seen); N]> for Sightings {
    fn from(nodes: [(NodeName, Seen); N]) -> Self {
        Self { nodes: nodes.into(), silent: BTreeSet::new() }
    }
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
        let seen = [(way("h2", 2), Seen::Forwarding), (way("h2", 3), Seen::Forwarding)].into();
        let told = Sightings::of(&seen, &[way("h2", 3)].into(), &BTreeSet::new());
        assert!(told.is_silent(&hop(3)) && !told.is_silent(&hop(2)));
        assert_eq!(told.iter().count(), 0, "its agent is there");
        let told = Sightings::of(&seen, &[way("h2", 3), way("h2", 2)].into(), &BTreeSet::new());
        assert!(!told.is_silent(&hop(2)) && !told.is_silent(&hop(3)), "it may be this host that is cut off");
    }

    #[test]
    fn a_host_is_dead_if_it_is_dead_everywhere() {
        let lost = BTreeSet::from(["h2".parse().unwrap()]);
        let verdict = |second: Option<Seen>| {
            let mut seen = BTreeMap::from([(way("h2", 2), Seen::Dead)]);
            seen.extend(second.map(|it| (way("h2", 3), it)));
            let silent = [way("h2", 2), way("h2", 3)].into_iter();
            let silent = silent.filter(|(_, target)| target.link == 2 || second != Some(Seen::Forwarding));
            Sightings::of(&seen, &silent.collect(), &lost).get(&"h2".parse().unwrap()).copied()
        };
        assert_eq!(verdict(Some(Seen::Dead)), Some(Seen::Dead));
        assert_eq!(verdict(Some(Seen::Forwarding)), Some(Seen::Forwarding));
        assert_eq!(verdict(None), None, "nobody has testified for the second link");
    }
}
