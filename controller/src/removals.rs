//! The brake of the controllers: how many announced nodes may be forgotten within a window (DESIGN I6). Pure.
//!
//! A drained node does not count, nor one that is back, nor one of a command that an operator confirmed. What counts is in
//! one record of the store, `meta/removals`, which each end of a claim guards: two controllers cannot both pass the limit.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::{
    NodeName, NodeState, Peer,
    brake::{WINDOW, limit},
};

use crate::records::{Removal, RemovalsRecord};

/// Where the window stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nodes that were forgotten within the window, and are absent still.
    pub recent: usize,
    /// How many may be.
    pub limit: usize,
    /// Announced nodes, and those of the window.
    pub peers: usize,
}

/// The window, as it counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    absent: Vec<Removal>,
    peers: usize,
}

impl Window {
    /// What counts still of `record`, where `peers` are known. A removal of the future, by another clock, counts from now.
    pub fn of(record: &RemovalsRecord, peers: &BTreeMap<NodeName, Peer>, now_unix_ms: u64) -> Self {
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        // What is known may be older than the record: the claim that ended is no sign that the node is back.
        let is_back = |removal: &Removal| {
            let peer = peers.get(&removal.node).filter(|peer| peer.state == NodeState::Ready);
            peer.is_some_and(|peer| peer.claimed > removal.claimed)
        };
        let counts =
            |removal: &&Removal| now_unix_ms.saturating_sub(removal.unix_ms) < window && !is_back(removal);
        let dated =
            |removal: &Removal| Removal { unix_ms: removal.unix_ms.min(now_unix_ms), ..removal.clone() };
        let absent: Vec<_> = record.recent.iter().filter(counts).map(dated).collect();
        let ready = peers.values().filter(|peer| peer.state == NodeState::Ready).map(|peer| &peer.name);
        let all: BTreeSet<&NodeName> = ready.chain(absent.iter().map(|removal| &removal.node)).collect();
        let peers = all.len();
        Self { absent, peers }
    }

    /// Where it stands.
    pub fn tally(&self) -> Tally {
        Tally { recent: self.absent.len(), limit: limit(self.peers), peers: self.peers }
    }

    /// The window with these removals in it too.
    ///
    /// # Errors
    /// Where it stands, if they are too many.
    pub fn with(&self, removals: &[Removal]) -> Result<Vec<Removal>, Tally> {
        let known = |removal: &&Removal| {
            let same = |it: &Removal| (&it.node, it.claimed) == (&removal.node, removal.claimed);
            !self.absent.iter().any(same)
        };
        let mut all = self.absent.clone();
        all.extend(removals.iter().filter(known).cloned());
        if all.len() > self.tally().limit && all.len() > self.absent.len() {
            return Err(self.tally());
        }
        Ok(all)
    }

    /// What counts still.
    pub fn absent(self) -> Vec<Removal> {
        self.absent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sextant_proto::Revision;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn peer(n: usize, claimed: u64, state: NodeState) -> (NodeName, Peer) {
        let name: NodeName = format!("h{n}").parse().unwrap();
        let peer = Peer {
            name: name.clone(),
            prefix: format!("2001:db8:0:{n:x}::/64").parse().unwrap(),
            claimed: Revision(claimed),
            pool: "main".parse().unwrap(),
            state,
            next_hops: vec![],
            session: true,
            drain_timeout: Duration::ZERO,
        };
        (name, peer)
    }

    fn removal(n: usize, claimed: u64, unix_ms: u64) -> Removal {
        Removal { node: format!("h{n}").parse().unwrap(), claimed: Revision(claimed), unix_ms }
    }

    fn ready(numbers: std::ops::Range<usize>) -> BTreeMap<NodeName, Peer> {
        numbers.map(|n| peer(n, 5, NodeState::Ready)).collect()
    }

    #[test]
    fn a_fifth_and_more_than_ten_is_too_much() {
        for (peers, most) in [(5, 10), (30, 10), (62, 12), (1000, 200)] {
            let window = Window::of(&RemovalsRecord::default(), &ready(0..peers), NOW);
            let removals: Vec<_> = (0..=most).map(|n| removal(n, 5, NOW)).collect();
            assert!(window.with(&removals[..most]).is_ok(), "{most} of {peers}");
            if peers > most {
                let tally = window.with(&removals).unwrap_err();
                assert_eq!(tally, Tally { recent: 0, limit: most, peers });
            }
        }
    }

    #[test]
    fn what_counts_is_recent_and_absent() {
        let recent = vec![
            removal(1, 5, NOW - 599_000),
            removal(2, 5, NOW - 600_000),
            removal(3, 5, NOW + 1_000_000),
            removal(4, 5, NOW),
            removal(5, 5, NOW),
            removal(6, 5, NOW),
        ];
        let mut peers = ready(20..30);
        peers.extend([
            peer(4, 9, NodeState::Ready),
            peer(5, 9, NodeState::Joining),
            // As it was before it was forgotten: the index is behind the record.
            peer(6, 5, NodeState::Ready),
        ]);
        let window = Window::of(&RemovalsRecord { recent, confirmed: 0 }, &peers, NOW);
        assert_eq!(window.tally(), Tally { recent: 4, limit: 10, peers: 15 });
        let nodes: Vec<_> = window.absent().iter().map(|it| (it.node.to_string(), it.unix_ms)).collect();
        let expected = [("h1", NOW - 599_000), ("h3", NOW), ("h5", NOW), ("h6", NOW)];
        assert_eq!(nodes, expected.map(|(name, at)| (name.to_owned(), at)));
    }

    #[test]
    fn a_removal_that_is_in_the_window_already_counts_once() {
        let recent: Vec<_> = (0..10).map(|n| removal(n, 5, NOW)).collect();
        let window = Window::of(&RemovalsRecord { recent, confirmed: 0 }, &ready(10..30), NOW);
        assert_eq!(window.with(&[removal(3, 5, NOW)]).unwrap().len(), 10);
        assert!(window.with(&[removal(3, 9, NOW)]).is_err(), "another claim of the same node");
    }

    proptest! {
        /// Nodes are forgotten and come back in any order: never are more than the limit absent that went in a window.
        #[test]
        fn no_more_than_the_limit_goes_within_a_window(
            steps in proptest::collection::vec((0usize..60, 0u64..60_000, any::<bool>()), 0..200)
        ) {
            let (mut record, mut peers, mut now) = (RemovalsRecord::default(), ready(0..60), NOW);
            let mut went: BTreeMap<NodeName, u64> = BTreeMap::new();
            for (step, (n, passed, back)) in steps.into_iter().enumerate() {
                now += passed;
                let claimed = step as u64 + 10;
                let (name, anew) = peer(n, claimed, NodeState::Ready);
                match peers.get(&name) {
                    None if back => {
                        peers.insert(name.clone(), anew);
                        went.remove(&name);
                    }
                    Some(there) if !back => {
                        let ends = Removal { node: name.clone(), claimed: there.claimed, unix_ms: now };
                        if let Ok(recent) = Window::of(&record, &peers, now).with(&[ends]) {
                            record.recent = recent;
                            peers.remove(&name);
                            went.insert(name, now);
                        }
                    }
                    _ => {}
                }
                let recent = went.values().filter(|at| now - **at < 600_000).count();
                prop_assert!(recent <= limit(60), "{recent}");
            }
        }
    }
}
