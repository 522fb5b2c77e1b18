//! Verdicts on hosts, from those on their next hops. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::NodeName;

use super::suspicion::Target;
use crate::{
    cluster::{Verdict, Verdicts},
    kernel::NextHop,
};

/// The key of a probed next hop: a node, and one of its next hops.
pub(super) type NodeHop = (NodeName, Target);

/// The verdicts on hosts, from those on single next hops (`seen`) and the `silent` next hops; the agents of `lost` are gone. A
/// host is alive if it answers on any next hop, and dead if it is dead on all of them.
pub(super) fn host_verdicts(
    seen: &BTreeMap<NodeHop, Verdict>,
    silent: &BTreeSet<NodeHop>,
    lost: &BTreeSet<NodeName>,
) -> Verdicts {
    let mut by_node: BTreeMap<&NodeName, Hops> = BTreeMap::new();
    for hop in seen.keys().chain(silent).collect::<BTreeSet<_>>() {
        by_node.entry(&hop.0).or_default().count(seen.get(hop), silent.contains(hop));
    }
    let lost = by_node.iter().filter(|(node, _)| lost.contains(**node));
    let verdicts = lost.filter_map(|(node, hops)| Some(((*node).clone(), hops.verdict()?)));
    let elsewhere =
        silent.iter().filter(|(node, _)| by_node.get(node).is_some_and(|hops| hops.answering > 0));
    Verdicts::new(verdicts.collect(), elsewhere.map(|(_, target)| next_hop(target)).collect())
}

/// The next hops of one host.
#[derive(Debug, Default)]
struct Hops {
    all: usize,
    answering: usize,
    dead: usize,
    /// One has answered, though it may be silent now.
    answered: bool,
}

impl Hops {
    fn count(&mut self, seen: Option<&Verdict>, silent: bool) {
        let answered = seen == Some(&Verdict::Forwarding);
        self.all += 1;
        self.answering += usize::from(answered && !silent);
        self.dead += usize::from(seen == Some(&Verdict::Dead));
        self.answered |= answered;
    }

    fn verdict(&self) -> Option<Verdict> {
        if self.answering > 0 {
            Some(Verdict::Forwarding)
        } else if self.dead == self.all {
            Some(Verdict::Dead)
        } else {
            // As for a single next hop: it has answered before, and its present silence proves nothing.
            self.answered.then_some(Verdict::Forwarding)
        }
    }
}

fn next_hop(target: &Target) -> NextHop {
    NextHop { gateway: Some(target.addr), link: target.link, onlink: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_hop(node: &str, link: u32) -> NodeHop {
        let addr = format!("2001:db8:{link}::2").parse().unwrap();
        (node.parse().unwrap(), Target { link, addr })
    }

    fn hop(link: u32) -> NextHop {
        NextHop { gateway: Some(node_hop("h2", link).1.addr), link, onlink: false }
    }

    #[test]
    fn a_next_hop_is_silent_only_if_its_host_answers_on_another() {
        let seen =
            [(node_hop("h2", 2), Verdict::Forwarding), (node_hop("h2", 3), Verdict::Forwarding)].into();
        let verdicts = host_verdicts(&seen, &[node_hop("h2", 3)].into(), &BTreeSet::new());
        assert!(verdicts.is_silent(&hop(3)) && !verdicts.is_silent(&hop(2)));
        assert_eq!(verdicts.iter().count(), 0, "its agent is connected");
        let verdicts = host_verdicts(&seen, &[node_hop("h2", 3), node_hop("h2", 2)].into(), &BTreeSet::new());
        assert!(
            !verdicts.is_silent(&hop(2)) && !verdicts.is_silent(&hop(3)),
            "this host itself may be cut off"
        );
    }

    #[test]
    fn a_host_is_dead_if_all_its_next_hops_are() {
        let lost = BTreeSet::from(["h2".parse().unwrap()]);
        let verdict = |second: Option<Verdict>| {
            let mut seen = BTreeMap::from([(node_hop("h2", 2), Verdict::Dead)]);
            seen.extend(second.map(|it| (node_hop("h2", 3), it)));
            let silent = [node_hop("h2", 2), node_hop("h2", 3)].into_iter();
            let silent = silent.filter(|(_, target)| target.link == 2 || second != Some(Verdict::Forwarding));
            host_verdicts(&seen, &silent.collect(), &lost).get(&"h2".parse().unwrap()).copied()
        };
        assert_eq!(verdict(Some(Verdict::Dead)), Some(Verdict::Dead));
        assert_eq!(verdict(Some(Verdict::Forwarding)), Some(Verdict::Forwarding));
        assert_eq!(verdict(None), None, "no answer and no verdict on the second link");
    }
}
