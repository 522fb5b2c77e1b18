//! The brake of the controllers: how many announced prefixes may end within a window (DESIGN I6). A node counts once for each of its
//! claims, as their routes do for the agents. Pure.
//!
//! Drained nodes, nodes that are back, and nodes of a confirmed command do not count. The others are in
//! one record of the store, `meta/removals`, which each end of a claim guards: two controllers cannot both pass the limit.
//! The age of a removal is the store's elapsed time since its revision; no wall clock decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sextant_proto::{
    NodeName, Peer, Revision,
    brake::{WINDOW, limit},
};

use crate::{
    elapsed::Elapsed,
    index::View,
    records::{Removal, RemovalsRecord},
};

/// The state of the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Claims that ended within the window, of nodes that are not back in their pool.
    pub recent: usize,
    /// The limit.
    pub limit: usize,
    /// Announced claims, and those of the window.
    pub claims: usize,
}

/// The current window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    absent: Vec<Removal>,
    claims: usize,
}

impl Window {
    /// The part of `record` that still counts, with `peers` known nodes.
    pub fn of(
        record: Option<&View<RemovalsRecord>>,
        peers: &BTreeMap<NodeName, Peer>,
        elapsed: Option<&View<Elapsed>>,
    ) -> Self {
        // What is known may be older than the record, and the node may hold other claims: neither the claim that ended nor one
        // from before its end is a sign that the node is back.
        let is_back = |(removal, ended): &(&Removal, Revision)| {
            let peer = peers.get(&removal.node);
            peer.is_some_and(|peer| peer.ready_claims().any(|claim| claim.claimed > *ended))
        };
        let recent = recent(record, elapsed).filter(|it| !is_back(it));
        let absent: Vec<_> =
            recent.map(|(removal, ended)| Removal { ended: Some(ended), ..removal.clone() }).collect();
        let of_peer = |peer: &'_ Peer| -> Vec<_> {
            peer.ready_claims().map(|claim| (peer.name.clone(), claim.claimed)).collect()
        };
        let ended = absent.iter().map(|removal| (removal.node.clone(), removal.claimed));
        let all: BTreeSet<_> = peers.values().flat_map(of_peer).chain(ended).collect();
        let claims = all.len();
        Self { absent, claims }
    }

    /// Its state.
    pub fn tally(&self) -> Tally {
        Tally { recent: self.absent.len(), limit: limit(self.claims), claims: self.claims }
    }

    /// The window with these removals in it too.
    ///
    /// # Errors
    /// The state of the window, if they are too many.
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

    /// The removals that still count.
    pub fn absent(self) -> Vec<Removal> {
        self.absent
    }
}

/// Whether a removal is within the window, whether or not its node is back.
pub fn is_open(record: Option<&View<RemovalsRecord>>, elapsed: Option<&View<Elapsed>>) -> bool {
    recent(record, elapsed).next().is_some()
}

/// The removals within the window, each with the revision that ended the claim.
fn recent<'a>(
    record: Option<&'a View<RemovalsRecord>>,
    elapsed: Option<&'a View<Elapsed>>,
) -> impl Iterator<Item = (&'a Removal, Revision)> {
    let all = record.into_iter().flat_map(|view| {
        view.record.recent.iter().map(|removal| (removal, removal.ended.unwrap_or(view.modified)))
    });
    let age = move |ended| elapsed.map_or(Duration::ZERO, |elapsed| elapsed.record.since(ended));
    all.filter(move |(_, ended)| age(*ended) < WINDOW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sextant_proto::{Incarnation, NodeState, PeerClaim};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn incarnation() -> Incarnation {
        format!("{:032x}", 1).parse().unwrap()
    }

    fn view<R>(record: R, modified: u64) -> View<R> {
        View { record, created: Revision(1), modified: Revision(modified) }
    }

    fn record(recent: Vec<Removal>, modified: u64) -> View<RemovalsRecord> {
        view(RemovalsRecord { recent, confirmed: 0 }, modified)
    }

    /// The elapsed time of a store, after steps of (seconds, revision then).
    fn elapsed(steps: &[(u32, u64)]) -> View<Elapsed> {
        let step = |elapsed: Elapsed, (seconds, revision): &(u32, u64)| {
            elapsed.advanced(SECOND * *seconds, incarnation(), Revision(*revision))
        };
        view(steps.iter().fold(Elapsed::new(incarnation(), Revision(1)), step), 1)
    }

    fn peer(n: usize, claimed: u64, state: NodeState) -> (NodeName, Peer) {
        let name: NodeName = format!("h{n}").parse().unwrap();
        let peer = Peer {
            name: name.clone(),
            claims: vec![PeerClaim::current(
                format!("2001:db8:0:{n:x}::/64").parse().unwrap(),
                "main".parse().unwrap(),
                Revision(claimed),
                state,
            )],
            next_hops: vec![],
            session: true,
            drain_timeout: Duration::ZERO,
        };
        (name, peer)
    }

    /// Its wall clock was wrong.
    fn removal(n: usize, claimed: u64, ended: Option<u64>) -> Removal {
        let node = format!("h{n}").parse().unwrap();
        Removal { node, claimed: Revision(claimed), ended: ended.map(Revision), unix_ms: n as u64 }
    }

    fn ready(numbers: std::ops::Range<usize>) -> BTreeMap<NodeName, Peer> {
        numbers.map(|n| peer(n, 5, NodeState::Ready)).collect()
    }

    /// The limit and what counts against it are of one kind: prefixes, as the agents count routes.
    #[test]
    fn a_node_counts_once_for_each_of_its_claims() {
        let mut peers = ready(0..40);
        for peer in peers.values_mut() {
            let pool = "ula".parse().unwrap();
            let prefix = "fd00::/64".parse().unwrap();
            peer.claims.push(PeerClaim::current(prefix, pool, Revision(6), NodeState::Ready));
        }
        let of_node = |n: usize| [removal(n, 5, None), removal(n, 6, None)];
        let removals: Vec<_> = (0..9).flat_map(of_node).collect();
        let tally = Window::of(None, &peers, None).with(&removals).unwrap_err();
        assert_eq!(tally, Tally { recent: 0, limit: 16, claims: 80 });
        assert!(Window::of(None, &peers, None).with(&removals[..16]).is_ok());
    }

    #[test]
    fn a_fifth_and_more_than_ten_is_too_much() {
        for (peers, most) in [(5, 10), (30, 10), (62, 12), (1000, 200)] {
            let window = Window::of(None, &ready(0..peers), None);
            let removals: Vec<_> = (0..=most).map(|n| removal(n, 5, None)).collect();
            assert!(window.with(&removals[..most]).is_ok(), "{most} of {peers}");
            if peers > most {
                let tally = window.with(&removals).unwrap_err();
                assert_eq!(tally, Tally { recent: 0, limit: most, claims: peers });
            }
        }
    }

    #[test]
    fn recent_removals_of_absent_nodes_count() {
        // Revision 10 was 650 s ago, 11 was 550 s ago, and 13 is of now.
        let elapsed = elapsed(&[(100, 10), (100, 11), (550, 13)]);
        let recent = vec![
            removal(1, 5, Some(11)),
            removal(2, 5, Some(10)),
            removal(3, 5, Some(13)),
            removal(4, 5, Some(13)),
            removal(5, 5, Some(13)),
            removal(6, 5, None),
        ];
        let mut peers = ready(20..30);
        peers.extend([
            peer(4, 14, NodeState::Ready),
            peer(5, 14, NodeState::Joining),
            // As it was before it was forgotten: the index is behind the record.
            peer(6, 5, NodeState::Ready),
            // One of its claims has ended, and another one from before that has not.
            peer(3, 8, NodeState::Ready),
        ]);
        let window = Window::of(Some(&record(recent.clone(), 12)), &peers, Some(&elapsed));
        assert_eq!(window.tally(), Tally { recent: 4, limit: 10, claims: 16 });
        let nodes: Vec<_> = window.absent().iter().map(|it| (it.node.to_string(), it.ended)).collect();
        let expected = [("h1", 11), ("h3", 13), ("h5", 13), ("h6", 12)];
        assert_eq!(nodes, expected.map(|(name, ended)| (name.to_owned(), Some(Revision(ended)))));
        let of_a_new_store = Window::of(Some(&record(recent, 12)), &peers, None);
        assert_eq!(of_a_new_store.tally().recent, 5, "no time was measured yet");
    }

    #[test]
    fn the_window_is_open_for_as_long_as_a_removal_is_in_it() {
        let removals = record(vec![removal(1, 5, None)], 10);
        for (since, open) in [(0, true), (599, true), (600, false)] {
            let elapsed = elapsed(&[(1, 10), (since, 11)]);
            assert_eq!(is_open(Some(&removals), Some(&elapsed)), open, "{since} s");
        }
        assert!(!is_open(None, None));
    }

    /// The limit falls with the number of nodes.
    #[test]
    fn a_window_beyond_the_limit_refuses_only_what_is_new() {
        let recent: Vec<_> = (0..15).map(|n| removal(n, 5, None)).collect();
        let window = Window::of(Some(&record(recent.clone(), 10)), &ready(20..30), None);
        assert_eq!(window.tally(), Tally { recent: 15, limit: 10, claims: 25 });
        assert_eq!(window.with(&recent[3..5]).unwrap().len(), 15);
        assert_eq!(window.with(&[]).unwrap().len(), 15);
        assert!(window.with(&[removal(20, 5, None)]).is_err());
    }

    #[test]
    fn a_removal_that_is_in_the_window_already_counts_once() {
        let recent: Vec<_> = (0..10).map(|n| removal(n, 5, None)).collect();
        let window = Window::of(Some(&record(recent, 10)), &ready(10..30), None);
        assert_eq!(window.with(&[removal(3, 5, None)]).unwrap().len(), 10);
        assert!(window.with(&[removal(3, 9, None)]).is_err(), "another claim of the same node");
    }

    proptest! {
        /// Nodes are forgotten and come back in any order: never are more than the limit absent that went in a window.
        #[test]
        fn no_more_than_the_limit_goes_within_a_window(
            steps in proptest::collection::vec((0usize..60, 0u32..60, any::<bool>()), 0..200)
        ) {
            let (mut recorded, mut peers, mut now) = (record(vec![], 1), ready(0..60), 0);
            let mut elapsed = elapsed(&[]);
            let mut went: BTreeMap<NodeName, u32> = BTreeMap::new();
            for (step, (n, passed, back)) in steps.into_iter().enumerate() {
                now += passed;
                let revision = step as u64 + 10;
                elapsed.record = elapsed.record.advanced(SECOND * passed, incarnation(), Revision(revision - 1));
                let (name, anew) = peer(n, revision, NodeState::Ready);
                match peers.get(&name) {
                    None if back => {
                        peers.insert(name.clone(), anew);
                        went.remove(&name);
                    }
                    Some(there) if !back => {
                        let ends = Removal { claimed: there.claims[0].claimed, ..removal(n, 0, None) };
                        if let Ok(recent) = Window::of(Some(&recorded), &peers, Some(&elapsed)).with(&[ends]) {
                            recorded = record(recent, revision);
                            peers.remove(&name);
                            went.insert(name, now);
                        }
                    }
                    _ => {}
                }
                let recent = went.values().filter(|at| now - **at < 600).count();
                prop_assert!(recent <= limit(60), "{recent}");
            }
        }
    }
}
