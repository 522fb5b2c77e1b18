//! Which of the routes that routers announce this host can use, and over which of its uplinks.

use std::collections::BTreeSet;

use sextant_proto::Prefix;

use super::{Desired, Entry, Hop, Known, ReceivedPath};
use crate::{
    kernel::{NextHop, RouteKey, RouteTarget},
    uplinks::LocalUplink,
};

/// What a route that a router announces must not touch: it would take traffic for this host, for its peers or for the link
/// away from where it belongs. A direct route to a peer wins by its metric.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    /// Nothing inside of these: the own prefixes, pools that are refused here, on-link prefixes.
    all: Vec<Prefix>,
    /// Nothing that is longer inside of these: it would win over the route to a peer.
    longer: Vec<(Prefix, u8)>,
    /// But these, inside of refused pools: prefixes of peers that are not on-link.
    off_link: BTreeSet<Prefix>,
}

impl Reserved {
    pub(super) fn of(known: &Known<'_>, refused: &[Prefix], off_link: BTreeSet<Prefix>) -> Self {
        let on_link = known.uplinks.iter().flat_map(|local| local.on_link.prefixes());
        let own = known.claims.iter().map(|claim| claim.prefix);
        Self {
            all: on_link.chain(own).chain(refused.iter().copied()).collect(),
            off_link,
            longer: known.pools().map(|pool| (pool.prefix, pool.host_len)).collect(),
        }
    }

    pub(super) fn covers(&self, prefix: Prefix) -> bool {
        if self.off_link.contains(&prefix) {
            return false;
        }
        let longer = |(pool, host_len): &(Prefix, u8)| prefix.len() > *host_len && pool.covers(prefix);
        self.all.iter().any(|it| it.covers(prefix)) || self.longer.iter().any(longer)
    }
}

/// The route to a prefix that a router announces, if the path has a next hop that is on one of the uplinks.
pub(super) fn import(known: &Known<'_>, prefix: Prefix, path: &ReceivedPath) -> Option<Entry> {
    let hop = next_hop(&path.hop, known.uplinks)?;
    let key = RouteKey { table: known.settings.table, destination: prefix, metric: known.imports.metric };
    Some((key, RouteTarget::Via(hop.into())))
}

/// Whether a route of ours that is not desired may go as far as routers are concerned: none that may be a router's does,
/// before it is known that it is not. An earlier start may have had another import metric: only a route to a peer, or one
/// inside a pool, is certainly none. It may go as soon as the route that takes its place is desired.
pub(super) fn is_none(key: &RouteKey, known: &Known<'_>, desired: &Desired) -> bool {
    let of_a_peer = || {
        key.metric == known.settings.metric
            || known.view.pools().any(|pool| pool.prefix.covers(key.destination))
    };
    let replaced = || {
        let now = RouteKey { table: known.settings.table, metric: known.imports.metric, ..*key };
        now != *key && desired.routes.contains_key(&now)
    };
    known.imports.complete || replaced() || (key.metric != known.imports.metric && of_a_peer())
}

/// By the global address where that is on-link, else by the one of the link that the router is on. Never to this host itself.
fn next_hop(hop: &Hop, uplinks: &[LocalUplink]) -> Option<NextHop> {
    let on_link = |address| uplinks.iter().find(|local| local.on_link.contains(address));
    let global = hop.global.and_then(|gateway| {
        Some(NextHop { gateway: Some(gateway), link: on_link(gateway)?.link, onlink: false })
    });
    global.or_else(|| {
        let gateway = hop.link_local?;
        let local = match &hop.interface {
            Some(name) => uplinks.iter().find(|local| *local.uplink.interface == **name)?,
            None => on_link(hop.router)?,
        };
        Some(local.hop(gateway))
    })
}

#[cfg(test)]
mod tests;
