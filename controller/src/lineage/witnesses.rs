//! Nodes that know another history than the store's. Pure: the clock is handed in.

use std::collections::BTreeMap;

use sextant_proto::{Incarnation, NodeName};
use tokio::time::Instant;

/// How many nodes make the store another incarnation: one alone may be wrong, or lie.
const ENOUGH: usize = 2;

/// A node that knows another history, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The node.
    pub node: NodeName,
    /// What it knows.
    pub why: String,
}

#[derive(Debug)]
struct Witness {
    of: Incarnation,
    since: Instant,
    why: String,
}

/// Who says so, each by its last word.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    nodes: BTreeMap<NodeName, Witness>,
}

impl Witnesses {
    /// `node` knows another history of the store `of`. Whether that is news.
    pub(super) fn doubts(&mut self, of: Incarnation, node: &NodeName, why: &str, now: Instant) -> bool {
        let known = self.nodes.get(node).filter(|witness| witness.of == of);
        let since = known.map_or(now, |witness| witness.since);
        let is_news = known.is_none();
        self.nodes.insert(node.clone(), Witness { of, since, why: why.to_owned() });
        is_news
    }

    /// `node` knows the store's history.
    pub(super) fn agrees(&mut self, node: &NodeName) {
        self.nodes.remove(node);
    }

    pub(super) fn since(&self, node: &NodeName) -> Option<Instant> {
        self.nodes.get(node).map(|witness| witness.since)
    }

    pub(super) fn are_enough(&self, of: Incarnation) -> bool {
        self.nodes.values().filter(|witness| witness.of == of).count() >= ENOUGH
    }

    pub(super) fn all(&self, of: Incarnation) -> Vec<Doubt> {
        let here = self.nodes.iter().filter(|(_, witness)| witness.of == of);
        here.map(|(node, witness)| Doubt { node: node.clone(), why: witness.why.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_nodes_are_enough_and_one_is_not_however_often_it_says_so() {
        let (mut witnesses, here, now) = (Witnesses::default(), Incarnation::random(), Instant::now());
        let [one, two]: [NodeName; 2] = ["h1", "h2"].map(|name| name.parse().unwrap());
        for after in 0..3 {
            let is_news = witnesses.doubts(here, &one, "a mark", now + Duration::from_secs(after));
            assert_eq!((is_news, witnesses.are_enough(here)), (after == 0, false));
        }
        assert_eq!(witnesses.since(&one), Some(now));
        witnesses.doubts(Incarnation::random(), &two, "of another store", now);
        assert!(!witnesses.are_enough(here) && witnesses.all(here).len() == 1);
        witnesses.doubts(here, &two, "a revision", now);
        assert!(witnesses.are_enough(here));
        witnesses.agrees(&one);
        assert!(!witnesses.are_enough(here), "it was mistaken, or the store is whole again");
    }
}
