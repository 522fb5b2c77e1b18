//! The names of the uplinks: those of the settings, or a guess that is made again when the host or the cluster changes. Pure.

use std::net::Ipv6Addr;

use sextant_proto::NodeName;

use crate::{
    cluster::View,
    kernel::{Link, Route},
    settings::{Endpoint, Settings},
    uplinks::{Clues, LinkRoutes, guessed_uplinks},
};

/// The names of the uplinks.
#[derive(Debug, Clone)]
pub(super) struct UplinkNames {
    names: Vec<String>,
    guess: Option<Guess>,
}

/// What the last guess was made from.
#[derive(Debug, Clone)]
struct Guess {
    /// The controllers of the settings, and those that were reached.
    configured: Vec<Ipv6Addr>,
    towards: Vec<Ipv6Addr>,
    /// So many peers had a next hop.
    peers: usize,
    due: bool,
}

impl UplinkNames {
    /// Those of the settings, or none before the first guess.
    pub(super) fn of(settings: &Settings) -> Self {
        let names = settings.uplinks.clone();
        let guess = names.is_empty().then(|| {
            let configured: Vec<_> =
                settings.controllers.iter().filter_map(Endpoint::literal_address).collect();
            Guess { towards: configured.clone(), configured, peers: 0, due: true }
        });
        Self { names, guess }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.names
    }

    /// The addresses whose routes decide the guess.
    pub(super) fn towards(&self) -> &[Ipv6Addr] {
        self.guess.as_ref().map_or(&[], |guess| &guess.towards)
    }

    /// These controllers were reached. Returns whether that changes [`Self::towards`].
    pub(super) fn look_towards(&mut self, controllers: &[Ipv6Addr]) -> bool {
        let Some(guess) = &mut self.guess else { return false };
        let more = controllers.iter().filter(|it| !guess.configured.contains(it));
        let towards: Vec<_> = guess.configured.iter().chain(more).copied().collect();
        let changed = towards != guess.towards;
        guess.towards = towards;
        changed
    }

    /// Links, addresses or routes have changed.
    pub(super) fn clues_changed(&mut self) {
        self.guess.iter_mut().for_each(|guess| guess.due = true);
    }

    /// Whether a route of another process may change the guess.
    pub(super) fn are_decided_by(&self, route: &Route) -> bool {
        let destination = route.key.destination;
        let leads = |guess: &Guess| guess.towards.iter().any(|addr| destination.contains(*addr));
        self.guess.as_ref().is_some_and(|guess| destination.len() == 0 || leads(guess))
    }

    /// Guesses again if that is due. Returns whether the names have changed; without a clue they stay.
    pub(super) fn guess(
        &mut self,
        node: &NodeName,
        links: &[Link],
        routes: &LinkRoutes,
        bridge: &str,
        view: &View,
    ) -> bool {
        let Some(guess) = &mut self.guess else { return false };
        let peers = || view.peers().filter(|peer| peer.name != *node && !peer.next_hops.is_empty());
        // One peer more among many changes nothing; the first ones may.
        let known = peers().take(MANY).count();
        if !guess.due && known == guess.peers {
            return false;
        }
        (guess.due, guess.peers) = (false, known);
        let peers: Vec<&[Ipv6Addr]> = peers().map(|peer| peer.next_hops.as_slice()).collect();
        let clues = Clues { links, routes, controllers: &guess.towards, peers: &peers, bridge };
        match guessed_uplinks(&clues) {
            Ok(names) if names != self.names => {
                tracing::info!(
                    uplinks = names.join(", "),
                    before = self.names.join(", "),
                    "uplinks determined"
                );
                self.names = names;
                true
            }
            _ => false,
        }
    }
}

/// From so many peers on, one more is no clue.
const MANY: usize = 10;
