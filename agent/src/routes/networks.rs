//! The networks of this host's containers, as the kernel has them: the routes to links with an address in a host prefix. Pure.

use std::collections::BTreeSet;

use sextant_proto::{Claim, Prefix};

use super::{Entry, Foreign};
use crate::{
    kernel::{Address, Link, RouteKey, RouteTarget},
    uplinks::LocalUplink,
};

/// The links of containers, by their indices: the bridge, and those with an address in a host prefix, e.g. of an engine's networks.
/// An uplink is none.
pub fn container_links(
    claims: &[Claim],
    bridge: &str,
    links: &[Link],
    addresses: &[Address],
    uplinks: &[LocalUplink],
) -> BTreeSet<u32> {
    let inside = |it: &&Address| claims.iter().any(|claim| claim.prefix.contains(it.addr));
    let bridge = links.iter().filter(|link| link.name == bridge).map(|link| link.index);
    let is_uplink = |link: &u32| uplinks.iter().any(|local| local.link == *link);
    let found = bridge.chain(addresses.iter().filter(inside).map(|it| it.link));
    found.filter(|link| !is_uplink(link)).collect()
}

/// The routes without a gateway to `links`, within the host prefixes. A route to one address is no network.
pub fn networks(others: &Foreign, claims: &[Claim], links: &BTreeSet<u32>) -> Vec<Entry> {
    let mut found = Vec::new();
    for table in tables(others) {
        for claim in claims {
            let first = RouteKey { table, destination: claim.prefix, metric: 0 };
            let inside = others
                .range(first..)
                .take_while(|(key, _)| key.table == table && claim.prefix.covers(key.destination));
            let networks = inside.filter(|(key, _)| key.destination.len() < 128);
            found.extend(networks.flat_map(|(key, known)| {
                let here = known.iter().filter(|(_, target)| is_direct(target) && is_on(target, links));
                here.map(|(_, target)| (*key, target.clone()))
            }));
        }
    }
    found
}

/// Whether all of it leads to these links.
pub(super) fn is_on(target: &RouteTarget, links: &BTreeSet<u32>) -> bool {
    matches!(target, RouteTarget::Via(hops) if hops.iter().all(|hop| links.contains(&hop.link)))
}

fn is_direct(target: &RouteTarget) -> bool {
    matches!(target, RouteTarget::Via(hops) if hops.iter().all(|hop| hop.gateway.is_none()))
}

fn tables(others: &Foreign) -> impl Iterator<Item = u32> {
    let from = |table| {
        let first = RouteKey { table, destination: Prefix::EVERYWHERE, metric: 0 };
        others.range(first..).next().map(|(key, _)| key.table)
    };
    std::iter::successors(from(0), move |table| from(table.checked_add(1)?))
}
