//! The names of the uplinks: those of the settings, or a guess that is made again when the host or the cluster changes. Pure.

use std::net::Ipv6Addr;

use sextant_proto::NodeName;

use crate::{
    cluster::View,
    kernel::{Link, Route},
    settings::{ControllerUrl, Settings},
    uplinks::{Clues, LinkRoutes, guessed_uplinks},
};

/// The names of the uplinks.
#[derive(Debug, Clone)]
pub(super) struct UplinkNames {
    /// Their present names.
    names: Vec<String>,
    configured: Vec<Configured>,
    guess: Option<Guess>,
}

/// An uplink of the settings. Its name is no identity: it is the same link while it has its index, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Configured {
    name: String,
    /// Its index, while there is such a link.
    link: Option<u32>,
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
                settings.controllers.iter().filter_map(ControllerUrl::literal_address).collect();
            Guess { towards: configured.clone(), configured, peers: 0, due: true }
        });
        let configured = names.iter().map(|name| Configured { name: name.clone(), link: None }).collect();
        Self { names, configured, guess }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[String] {
        &self.names
    }

    /// Follows the uplinks of the settings to their present names: a link that has lost its name stays an uplink until it is gone,
    /// or another one has the name.
    pub(super) fn follow(&mut self, links: &[Link]) {
        let configured: Vec<_> = self.configured.iter().map(|uplink| uplink.name.clone()).collect();
        for uplink in &mut self.configured {
            let named = links.iter().find(|link| link.name == uplink.name);
            let same = |link: &&Link| Some(link.index) == uplink.link && !configured.contains(&link.name);
            uplink.link = named.or_else(|| links.iter().find(same)).map(|link| link.index);
        }
        let present = |uplink: &Configured| {
            let link = links.iter().find(|link| Some(link.index) == uplink.link);
            link.map_or_else(|| uplink.name.clone(), |link| link.name.clone())
        };
        if self.guess.is_none() {
            self.names = self.configured.iter().map(present).collect();
        }
    }

    /// The uplinks of the settings that have another name now: both names.
    pub(super) fn renamed(&self) -> impl Iterator<Item = (&str, &str)> {
        let both = self
            .configured
            .iter()
            .map(|uplink| uplink.name.as_str())
            .zip(self.names.iter().map(String::as_str));
        both.filter(|(configured, now)| configured != now)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), ..Link::default() }
    }

    #[test]
    fn an_uplink_is_the_same_link_whatever_its_name() {
        let configured = ["eth0", "eth1"].map(|name| Configured { name: name.into(), link: None });
        let mut it = UplinkNames { names: Vec::new(), configured: configured.into(), guess: None };
        let mut after = |links: &[Link]| {
            it.follow(links);
            let renamed = it.renamed().map(|(before, now)| format!("{before} is {now}")).collect::<Vec<_>>();
            (it.all().join(" "), renamed.join(", "))
        };
        let names = |all: &str, renamed: &str| (all.to_owned(), renamed.to_owned());
        assert_eq!(after(&[link(2, "eth0")]), names("eth0 eth1", ""));
        assert_eq!(after(&[link(2, "lan0"), link(3, "eth1")]), names("lan0 eth1", "eth0 is lan0"));
        assert_eq!(
            after(&[link(2, "lan0"), link(3, "lan1")]),
            names("lan0 lan1", "eth0 is lan0, eth1 is lan1")
        );
        assert_eq!(
            after(&[link(2, "lan0"), link(3, "eth0")]),
            names("eth0 eth1", ""),
            "it has another one's name"
        );
        assert_eq!(after(&[link(4, "eth0"), link(3, "eth1")]), names("eth0 eth1", ""));
        assert_eq!(after(&[link(2, "eth0"), link(3, "lan1")]), names("eth0 lan1", "eth1 is lan1"));
        assert_eq!(after(&[link(9, "lan0")]), names("eth0 eth1", ""), "both are gone");
        assert_eq!(
            after(&[link(2, "lan0"), link(3, "lan1")]),
            names("eth0 eth1", ""),
            "an index says nothing any more"
        );
    }
}
