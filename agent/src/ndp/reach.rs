//! On which uplinks the addresses of a claim are answered for: those where its prefix is on-link. Neighbours on others do not ask for
//! them, and whoever answers for too much is taken for an attacker. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_proto::{Claim, Prefix};

use super::entries::Entries;
use crate::uplinks::LocalUplink;

/// The uplinks of each host prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    links: BTreeMap<Prefix, BTreeSet<u32>>,
    present: BTreeSet<u32>,
}

impl Reach {
    /// While a prefix is on-link nowhere, e.g. since an uplink has lost its address for a moment, it is answered for where it was
    /// before; after a start, where our entries are (DESIGN I5).
    pub(super) fn follow(&mut self, claims: &[Claim], uplinks: &[LocalUplink], entries: &Entries) {
        let before = std::mem::take(&mut self.links);
        self.present = uplinks.iter().map(|uplink| uplink.link).collect();
        for prefix in claims.iter().map(|claim| claim.prefix) {
            let has = |uplink: &&LocalUplink| uplink.on_link.prefixes().any(|it| it.covers(prefix));
            let now: BTreeSet<u32> = uplinks.iter().filter(has).map(|uplink| uplink.link).collect();
            let ours = || {
                let ours = entries.iter().filter(|it| it.is_ours() && prefix.contains(it.addr));
                ours.map(|it| it.link).collect()
            };
            let former = || before.get(&prefix).cloned().unwrap_or_else(ours);
            self.links.insert(prefix, if now.is_empty() { former() } else { now });
        }
    }

    /// The uplinks on which this address is answered for.
    pub(super) fn links(&self, addr: Ipv6Addr) -> impl Iterator<Item = u32> {
        let of = self.links.iter().filter(move |(prefix, _)| prefix.contains(addr));
        of.flat_map(|(_, links)| links.intersection(&self.present).copied())
    }

    /// Whether the address is answered for on this uplink.
    pub(super) fn has(&self, link: u32, addr: Ipv6Addr) -> bool {
        self.links(addr).any(|it| it == link)
    }

    /// The uplinks, each with those of these container prefixes that are not answered for there.
    pub(super) fn off_link(&self, uplinks: &[LocalUplink], prefixes: &[Prefix]) -> Vec<(u32, Prefix)> {
        let pairs = uplinks.iter().flat_map(|it| prefixes.iter().map(move |prefix| (it.link, *prefix)));
        pairs.filter(|(link, prefix)| !self.has(*link, prefix.addr())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;
    use crate::{kernel::ProxyEntry, uplinks::on_link_by};

    impl Reach {
        /// This prefix on these links.
        pub(in crate::ndp) fn of(prefix: &str, links: &[u32]) -> Self {
            let present: BTreeSet<u32> = links.iter().copied().collect();
            Self { links: [(prefix.parse().unwrap(), present.clone())].into(), present }
        }
    }

    fn claim(prefix: &str) -> Claim {
        let pool =
            Pool::new("main".parse().unwrap(), "2001:db8::c000/116".parse().unwrap(), 125, 125).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix: prefix.parse().unwrap(), epoch, pool }
    }

    fn uplink(link: u32, on_link: &[&str]) -> LocalUplink {
        let routes: Vec<_> = on_link.iter().map(|it| format!("{it} dev {link}")).collect();
        let routes: Vec<_> = routes.iter().map(String::as_str).collect();
        let uplink = sextant_proto::Uplink { interface: format!("eth{link}"), addresses: Vec::new() };
        let on_link = Arc::new(on_link_by(link, [], &routes));
        LocalUplink { link, works: true, uplink, link_local: None, on_link }
    }

    #[test]
    fn an_address_is_answered_for_where_it_is_on_link() {
        let claims = [claim("2001:db8::c000/125")];
        let addr = "2001:db8::c003".parse().unwrap();
        let (one, other) = (uplink(2, &["2001:db8::/64"]), uplink(3, &["2001:db8:5::/64"]));
        let mut reach = Reach::default();
        reach.follow(&claims, &[one.clone(), other.clone()], &Entries::default());
        assert_eq!(reach.links(addr).collect::<Vec<_>>(), [2]);
        let off = [(3, claims[0].prefix)];
        assert_eq!(reach.off_link(&[one.clone(), other.clone()], &[claims[0].prefix]), off);
        reach.follow(&claims, &[uplink(2, &[]), other.clone()], &Entries::default());
        assert_eq!(reach.links(addr).collect::<Vec<_>>(), [2], "it has lost its address for a moment");
        reach.follow(&claims, &[], &Entries::default());
        assert_eq!(reach.links(addr).count(), 0);
        reach.follow(&claims, &[uplink(2, &[])], &Entries::default());
        assert_eq!(reach.links(addr).collect::<Vec<_>>(), [2], "it was away for a moment");
        reach.follow(&claims, &[uplink(2, &[]), uplink(3, &["2001:db8::/64"])], &Entries::default());
        assert_eq!(reach.links(addr).collect::<Vec<_>>(), [3], "it has moved");
        reach.follow(&[], &[one, other], &Entries::default());
        assert_eq!(reach.links(addr).count(), 0, "the claim has ended");
    }

    #[test]
    fn after_a_start_it_is_answered_for_where_it_was() {
        let claims = [claim("2001:db8::c000/125")];
        let addr = "2001:db8::c003".parse().unwrap();
        let (mut reach, mut entries) = (Reach::default(), Entries::default());
        entries.insert(ProxyEntry::ours(3, addr));
        reach.follow(&claims, &[uplink(2, &[]), uplink(3, &[])], &entries);
        assert_eq!(reach.links(addr).collect::<Vec<_>>(), [3]);
        let mut reach = Reach::default();
        reach.follow(&claims, &[uplink(2, &[])], &Entries::default());
        assert_eq!(reach.links(addr).count(), 0, "nowhere, if it was never on-link");
    }
}
