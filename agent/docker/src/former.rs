//! The prefixes that the agent's networks had before. Pure.

use std::collections::BTreeSet;

use sextant_proto::Prefix;

use crate::{
    network::Network,
    wanted::{Wanted, is_ours},
};

/// So many are remembered of which no network is left: an engine that starts may put routes of them back.
const MOST_LEFT: usize = 64;

/// The prefixes that networks of the agent were seen with, and that none is to have any more.
#[derive(Debug, Default)]
pub struct Former {
    /// Those that a network may still have.
    seen: BTreeSet<Prefix>,
    /// Those that no network has any more.
    left: BTreeSet<Prefix>,
}

impl Former {
    /// Those of an earlier process.
    pub fn restored(stored: BTreeSet<Prefix>) -> Self {
        Self { seen: stored, left: BTreeSet::new() }
    }

    /// All, to be stored.
    pub fn remembered(&self) -> BTreeSet<Prefix> {
        self.seen.union(&self.left).copied().collect()
    }

    /// Notes the engine's networks. Returns the former prefixes that no network has any more, each of them once.
    pub fn left(&mut self, wanted: &[Wanted], networks: &[Network]) -> BTreeSet<Prefix> {
        let ours = networks.iter().filter(|network| is_ours(network));
        self.seen.extend(ours.flat_map(|network| &network.prefixes).map(|(prefix, _)| *prefix));
        let unwanted = |prefix: &Prefix| !wanted.iter().any(|wanted| prefix.overlaps(wanted.prefix));
        self.seen.retain(unwanted);
        self.left.retain(unwanted);
        let used = |prefix: &Prefix| {
            networks.iter().flat_map(|network| &network.prefixes).any(|(it, _)| it.overlaps(*prefix))
        };
        let (used, left): (_, BTreeSet<_>) = std::mem::take(&mut self.seen).into_iter().partition(used);
        self.seen = used;
        self.left.extend(&left);
        while self.left.len() > MOST_LEFT {
            self.left.pop_first();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::tests::{made, wanted};

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    /// A network with a prefix, made by the agent or not.
    fn network(name: &str, text: &str, ours: bool) -> Network {
        let mut network = made(&Wanted { name: name.into(), prefix: prefix(text), ..wanted() });
        if !ours {
            network.labels.clear();
        }
        network
    }

    #[test]
    fn a_former_prefix_is_left_once_no_network_has_it() {
        let (wanted, mut former) = ([wanted()], Former::default());
        let (name, own) = (&wanted[0].name, wanted[0].prefix.to_string());
        let old = || network(name, "2001:db8:8000:7::/80", true);
        assert!(former.left(&wanted, &[old()]).is_empty(), "containers use it");
        assert!(former.left(&wanted, &[network(name, &own, true), old()]).is_empty());
        let now = [network(name, &own, true)];
        assert_eq!(former.left(&wanted, &now), [prefix("2001:db8:8000:7::/80")].into());
        assert!(former.left(&wanted, &now).is_empty(), "once");
        former.left(&wanted, &[old()]);
        assert_eq!(former.left(&wanted, &[]).len(), 1, "an operator has removed the network");
    }

    #[test]
    fn only_prefixes_of_the_agents_own_networks_count() {
        let (main, mut former) = (wanted(), Former::default());
        let db = Wanted { name: "db".into(), prefix: prefix("2001:db8:1:0:1::/80"), ..wanted() };
        let wanted = [main, db];
        former.left(&wanted, &[network("sextant", "2001:db8:8000:7::/80", false)]);
        former.left(&wanted, &[network("sextant", "2001:db8:1::/96", true)]);
        former.left(&wanted, &[network("db", "2001:db8:1:0:1::/80", true)]);
        assert!(former.left(&wanted, &[]).is_empty(), "the last two are inside of wanted prefixes");
        // Of an entry that was removed from the settings.
        former.left(&wanted, &[network("cache", "2001:db8:1:0:2::/80", true)]);
        assert_eq!(former.left(&wanted, &[]), [prefix("2001:db8:1:0:2::/80")].into());
    }

    #[test]
    fn an_earlier_process_has_stored_them() {
        let (wanted, mut former) = ([wanted()], Former::default());
        let (name, own) = (&wanted[0].name, wanted[0].prefix.to_string());
        let old = prefix("2001:db8:8000:7::/80");
        former.left(&wanted, &[network(name, "2001:db8:8000:7::/80", true)]);
        // Ended before the network is made anew, and after that.
        let mut again = Former::restored(former.remembered());
        assert_eq!(again.left(&wanted, &[network(name, &own, true)]), [old].into());
        let mut again = Former::restored(again.remembered());
        assert_eq!(again.left(&wanted, &[network(name, &own, true)]), [old].into());
        // The host gets the prefix back.
        let back = [Wanted { prefix: old, ..wanted[0].clone() }];
        again.left(&back, &[]);
        assert!(!again.remembered().contains(&old));
    }
}
