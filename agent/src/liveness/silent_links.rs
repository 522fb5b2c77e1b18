//! Uplinks on which no peer answers, though agents are connected. Pure.
//!
//! With one uplink, no peer is probed while its agent is connected: the agents themselves may reach the controllers over another
//! interface. So on each uplink, some peers are asked until one of them has answered.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::suspicion::{Observed, Target};
use crate::{kernel::NeighbourState, problems::Finding, uplinks::LocalUplink};

/// So many peers are asked at once.
const ASKED: usize = 3;
/// The kernel has asked three times by then.
const ANSWER_WITHIN: Duration = Duration::from_millis(3500);
/// So many rounds without any answer.
const ROUNDS: usize = 4;
/// An uplink on which a peer has answered is looked at again after this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Where no uplink has a peer, it is looked for one after this time.
const WITHOUT_PEERS: Duration = Duration::from_secs(10);

/// The uplinks with peers that are asked, or have answered.
#[derive(Debug, Default)]
pub(super) struct SilentLinks {
    links: BTreeMap<u32, Round>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Round {
    /// So many rounds have failed in a row.
    failed: usize,
    /// The peers of this round.
    asked: Vec<Target>,
    due: Instant,
}

impl SilentLinks {
    /// Evaluates the answers of the peers on the uplinks, which are all whose agents are connected. Returns those to ask now. Entries that
    /// the kernel never probes say nothing, and a probe would replace them.
    pub(super) fn evaluate(&mut self, peers: &[Target], observed: &Observed, now: Instant) -> Vec<Target> {
        let mut by_link: BTreeMap<u32, Vec<Target>> = BTreeMap::new();
        let is_fixed = |target: &Target| observed.neighbours.get(target).is_some_and(|it| it.is_fixed());
        let may_be_asked = |target: &&Target| observed.usable.contains(&target.link) && !is_fixed(target);
        for target in peers.iter().filter(may_be_asked) {
            by_link.entry(target.link).or_default().push(*target);
        }
        self.links.retain(|link, _| by_link.contains_key(link));
        let asked = by_link.into_iter().flat_map(|(link, peers)| self.of_link(link, &peers, observed, now));
        let asked = asked.collect();
        let due = self.links.values().map(|round| round.due).min();
        self.due = Some(due.unwrap_or(now + WITHOUT_PEERS));
        asked
    }

    fn of_link(&mut self, link: u32, peers: &[Target], observed: &Observed, now: Instant) -> Vec<Target> {
        let round = self.links.entry(link).or_insert(Round { failed: 0, asked: Vec::new(), due: now });
        if peers.iter().any(|peer| has_answered(peer, observed)) {
            *round = Round { failed: 0, asked: Vec::new(), due: now + INTERVAL };
        } else if round.due <= now {
            round.failed += usize::from(!round.asked.is_empty());
            let from = (round.failed * ASKED) % peers.len();
            round.asked = peers.iter().cycle().skip(from).take(ASKED.min(peers.len())).copied().collect();
            round.due = now + ANSWER_WITHIN;
            return round.asked.clone();
        }
        Vec::new()
    }

    /// When to evaluate again: each time takes as long as there are peers. Now if nothing is known yet.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The uplinks have changed: they are to be evaluated now.
    pub(super) fn uplinks_changed(&mut self) {
        self.due = None;
    }

    /// The problem of each silent uplink.
    pub(super) fn findings(&self, uplinks: &[LocalUplink]) -> Vec<Finding> {
        let silent =
            |local: &&LocalUplink| self.links.get(&local.link).is_some_and(|round| round.failed >= ROUNDS);
        uplinks.iter().filter(silent).map(|local| finding(&local.uplink.interface)).collect()
    }
}

fn has_answered(peer: &Target, observed: &Observed) -> bool {
    use NeighbourState::{Reachable, Stale};
    matches!(observed.neighbours.get(peer), Some(Reachable | Stale))
}

fn finding(interface: &str) -> Finding {
    Finding::new(
        "uplink-silent",
        format!(
            "no peer answers neighbour solicitations on uplink {interface}, though their next hops are on-link there and their \
             agents are connected"
        ),
        format!(
            "if {interface} does not lead to the other hosts, set [uplink] interface in agent.toml (--uplink) to the one that does, \
             here and there, and restart sextant-agent; if it does, check its switch port, its VLAN, and that firewalls pass \
             ICMPv6 types 135 and 136"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(link: u32, n: u16) -> Target {
        Target { link, addr: format!("2001:db8:0:{link}::{n:x}").parse().unwrap() }
    }

    fn observed(answers: &[(Target, NeighbourState)]) -> Observed {
        Observed { usable: [2, 3].into(), neighbours: answers.iter().copied().collect() }
    }

    fn silent(links: &SilentLinks) -> Vec<u32> {
        links.links.iter().filter(|(_, round)| round.failed >= ROUNDS).map(|(link, _)| *link).collect()
    }

    #[test]
    fn a_link_is_silent_after_some_rounds_in_which_other_peers_are_asked() {
        let (mut links, mut now) = (SilentLinks::default(), Instant::now());
        let peers: Vec<_> = (1..=5).map(|n| target(2, n)).collect();
        let failed = observed(&[(target(2, 1), NeighbourState::Failed)]);
        let mut asked = Vec::new();
        for _ in 0..=ROUNDS {
            assert!(silent(&links).is_empty());
            let now_asked = links.evaluate(&peers, &failed, now);
            assert!(links.evaluate(&peers, &failed, now).is_empty(), "they have time to answer");
            assert_eq!(now_asked.len(), ASKED);
            asked.extend(now_asked);
            now = links.due().unwrap();
        }
        assert_eq!(silent(&links), [2]);
        assert!(peers.iter().all(|peer| asked.contains(peer)), "{asked:?}");

        let answers = observed(&[(target(2, 4), NeighbourState::Stale)]);
        assert!(links.evaluate(&peers, &answers, now).is_empty());
        assert_eq!((silent(&links), links.due()), (vec![], Some(now + INTERVAL)));
    }

    #[test]
    fn entries_that_the_kernel_never_probes_are_neither_asked_nor_missed() {
        use NeighbourState::{Failed, Fixed, Permanent};
        let (mut links, mut now) = (SilentLinks::default(), Instant::now());
        let peers = [target(2, 1), target(2, 2), target(2, 3), target(3, 1)];
        let entries =
            observed(&[(peers[0], Permanent), (peers[1], Fixed), (peers[2], Failed), (peers[3], Permanent)]);
        for _ in 0..=ROUNDS {
            assert_eq!(links.evaluate(&peers, &entries, now), [peers[2]]);
            now += ANSWER_WITHIN;
        }
        assert_eq!(silent(&links), [2], "nothing is known of the other link");
    }

    #[test]
    fn each_link_is_evaluated_for_itself_and_only_while_it_is_usable() {
        let (mut links, mut now) = (SilentLinks::default(), Instant::now());
        let peers = [target(2, 1), target(3, 1), target(4, 1)];
        let answers = observed(&[(target(2, 1), NeighbourState::Reachable)]);
        for _ in 0..=ROUNDS {
            assert_eq!(links.evaluate(&peers, &answers, now), [target(3, 1)]);
            now += ANSWER_WITHIN;
        }
        assert_eq!(silent(&links), [3]);
        let unusable = Observed { usable: [2].into(), ..answers };
        assert!(links.evaluate(&peers, &unusable, now).is_empty() && silent(&links).is_empty());
        assert!(links.evaluate(&[], &unusable, now).is_empty() && links.links.is_empty());
    }
}
