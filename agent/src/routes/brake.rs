//! The brake: a change that would take many peers away at once waits for a person (DESIGN I6). Pure.

use std::collections::BTreeSet;

use sextant_proto::{NodeName, NodeState, Prefix, Revision};

use super::{Actual, Desired};
use crate::{kernel::RouteKey, settings::RouteSettings, view::View};

/// Up to so many peers may go at once, whatever part of all they are.
const FEW: usize = 10;
/// More than one in so many is too many.
const PART: usize = 5;

/// Whether routes to peers that are gone may go.
#[derive(Debug, Clone, Default)]
pub struct Brake {
    /// The revision at which it began to hold.
    since: Option<Revision>,
    held: BTreeSet<Prefix>,
}

impl Brake {
    /// Looks at what the view takes away from the kernel, of what `may_go` at all, and holds it if it is too much at once.
    /// What is held is let go by a resume after it began, or once so many of the peers are back that it is no longer too
    /// much.
    pub fn judge(
        &mut self,
        node: &NodeName,
        view: &View,
        actual: &Actual,
        desired: &Desired,
        settings: &RouteSettings,
        may_go: impl Fn(&RouteKey) -> bool,
    ) {
        let gone = gone(node, view, actual, desired, settings, may_go);
        let routed = || actual.ours.keys().filter(|key| leads_to_peer(key, settings)).count();
        if gone.len() <= FEW || gone.len() * PART <= routed() {
            *self = Self::default();
            return;
        }
        let since = *self.since.get_or_insert(view.revision());
        let released = view.control().resumed >= since;
        self.held = if released { BTreeSet::new() } else { gone };
    }

    /// Whether the route must stay.
    pub fn holds(&self, key: &RouteKey) -> bool {
        self.held.contains(&key.destination)
    }

    /// How many routes it keeps.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// Where routes to peers lead that no announced node has any more. A host that only moved, or that this host reaches
/// another way by now, is not gone.
fn gone(
    node: &NodeName,
    view: &View,
    actual: &Actual,
    desired: &Desired,
    settings: &RouteSettings,
    may_go: impl Fn(&RouteKey) -> bool,
) -> BTreeSet<Prefix> {
    // What is wanted leads to somebody who is announced; mostly that is all.
    let left = actual.ours.without(&desired.routes);
    let going = left.map(|(key, _)| key).filter(|key| leads_to_peer(key, settings) && may_go(key));
    let mut gone: BTreeSet<Prefix> = going.map(|key| key.destination).collect();
    if !gone.is_empty() {
        let announced = view.peers().filter(|peer| peer.name != *node && peer.state == NodeState::Ready);
        for peer in announced {
            gone.remove(&peer.prefix);
        }
    }
    gone
}

fn leads_to_peer(key: &RouteKey, settings: &RouteSettings) -> bool {
    (key.table, key.metric) == (settings.table, settings.metric)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_proto::{Control, Incarnation, Peer};

    use super::*;
    use crate::{
        kernel::RouteTarget,
        settings::{Direct, Topology},
        view::Snapshot,
    };

    const SETTINGS: RouteSettings = RouteSettings {
        metric: 512,
        unreachable_metric: 4_000_000_000,
        table: 254,
        resync_secs: 60,
        balance: false,
        direct: Direct::OnLink,
        topology: Topology::Switched,
        mark: None,
    };

    fn prefix(n: u32) -> Prefix {
        format!("2001:db8:1:{n:x}::/64").parse().unwrap()
    }

    fn routed(peers: u32) -> Actual {
        let key = |n| RouteKey { table: 254, destination: prefix(n), metric: 512 };
        Actual { ours: (0..peers).map(|n| (key(n), RouteTarget::Unreachable)).collect(), ..Actual::default() }
    }

    fn view(revision: u64, resumed: u64, peers: std::ops::Range<u32>) -> View {
        let peer = |n| Peer {
            name: format!("h{n}").parse().unwrap(),
            prefix: prefix(n),
            claimed: Revision(1),
            pool: "main".parse().unwrap(),
            state: NodeState::Ready,
            next_hops: vec![],
            session: true,
            drain_timeout: Duration::ZERO,
        };
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation: Incarnation::random(),
            revision: Revision(revision),
            linearizable: true,
            recovering: false,
            control: Control { paused: false, resumed: Revision(resumed) },
            pools: vec![],
            peers: peers.map(peer).collect(),
        });
        view
    }

    fn held(routes: u32, view: &View) -> usize {
        let mut brake = Brake::default();
        brake.judge(&"me".parse().unwrap(), view, &routed(routes), &Desired::default(), &SETTINGS, |_| true);
        brake.held()
    }

    #[test]
    fn few_or_a_small_part_may_go() {
        assert_eq!(held(30, &view(5, 0, 0..20)), 0, "ten of thirty");
        assert_eq!(held(12, &view(5, 0, 0..2)), 0, "ten of twelve");
        assert_eq!(held(60, &view(5, 0, 0..48)), 0, "a fifth");
        assert_eq!(held(30, &view(5, 0, 0..19)), 11, "eleven of thirty");
        assert_eq!(held(60, &view(5, 0, 0..47)), 13, "more than a fifth");
    }

    #[test]
    fn a_later_resume_lets_go_and_an_earlier_one_does_not() {
        let (mut brake, me, actual) = (Brake::default(), "me".parse().unwrap(), routed(30));
        brake.judge(&me, &view(5, 4, 0..10), &actual, &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 20);
        brake.judge(&me, &view(6, 4, 0..9), &actual, &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 21, "what comes after waits too");
        brake.judge(&me, &view(7, 7, 0..9), &actual, &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 0);
        brake.judge(&me, &view(7, 7, 0..9), &routed(9), &Desired::default(), &SETTINGS, |_| true);
        brake.judge(&me, &view(9, 7, 0..9), &routed(40), &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 31, "the next time is another time");
    }

    #[test]
    fn what_may_not_go_anyway_is_not_held() {
        let mut brake = Brake::default();
        brake.judge(
            &"me".parse().unwrap(),
            &view(5, 0, 0..0),
            &routed(30),
            &Desired::default(),
            &SETTINGS,
            |_| false,
        );
        assert_eq!(brake.held(), 0);
    }

    #[test]
    fn who_comes_back_is_no_longer_held() {
        let (mut brake, me, actual) = (Brake::default(), "me".parse().unwrap(), routed(30));
        brake.judge(&me, &view(5, 0, 0..0), &actual, &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 30);
        brake.judge(&me, &view(6, 0, 0..29), &actual, &Desired::default(), &SETTINGS, |_| true);
        assert_eq!(brake.held(), 0, "one of thirty may go by itself");
    }
}
