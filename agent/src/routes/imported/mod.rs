//! Which of the routes that routers announce this host can use, and over which of its uplinks.

use sextant_proto::Prefix;

use super::desired::{Desired, Host, pools};
use crate::{
    cluster::View,
    kernel::{NextHop, RouteKey, RouteTarget},
    routes::{Hop, Imports},
    settings::RouteSettings,
    uplinks::LocalUplink,
};

/// What a route that a router announces must not touch.
struct Reserved {
    /// Nothing inside of these: the own prefix, pools that are refused here, on-link prefixes.
    all: Vec<Prefix>,
    /// Nothing that is longer inside of these: it would win over the route to a peer.
    longer: Vec<(Prefix, u8)>,
}

impl Reserved {
    fn of(host: &Host<'_>, view: &View, desired: &Desired) -> Self {
        let on_link = host.uplinks.iter().flat_map(|local| &local.uplink.addresses).map(|it| it.on_link);
        let mut all: Vec<_> = on_link.chain(host.claim.map(|claim| claim.prefix)).collect();
        let pools = pools(host, view);
        all.extend(pools.iter().map(|pool| pool.prefix).filter(|pool| desired.refuses(host, *pool)));
        Self { all, longer: pools.iter().map(|pool| (pool.prefix, pool.host_len)).collect() }
    }

    fn covers(&self, prefix: Prefix) -> bool {
        let longer = |(pool, host_len): &(Prefix, u8)| prefix.len() > *host_len && pool.covers(prefix);
        self.all.iter().any(|it| it.covers(prefix)) || self.longer.iter().any(longer)
    }
}

impl Desired {
    /// Adds what `imports` has and this host can use: not what would take traffic for itself, for its peers or for the link
    /// away from where it belongs. A direct route to a peer wins by its metric. Returns how many have a next hop that is on
    /// none of the uplinks.
    pub fn import(&mut self, host: &Host<'_>, view: &View, imports: &Imports) -> usize {
        if imports.routes.is_empty() {
            return 0;
        }
        let reserved = Reserved::of(host, view, self);
        let (mut usable, mut unresolved) = (Vec::new(), 0);
        for (prefix, path) in imports.routes.iter().filter(|(prefix, _)| !reserved.covers(**prefix)) {
            let Some(hop) = next_hop(&path.hop, host.uplinks) else {
                unresolved += 1;
                continue;
            };
            let (table, metric) = (host.settings.table, imports.metric);
            let key = RouteKey { table, destination: *prefix, metric };
            usable.push((key, Some(RouteTarget::Via(hop.into()))));
        }
        self.routes.change(usable);
        unresolved
    }
}

/// Whether a route of ours that is not desired may go as far as routers are concerned: none that may be a router's does,
/// before it is known that it is not. An earlier start may have had another import metric: only a route to a peer, or one
/// inside a pool, is certainly none. It may go as soon as the route that takes its place is desired.
pub fn may_go(
    key: &RouteKey,
    imports: &Imports,
    settings: &RouteSettings,
    view: &View,
    desired: &Desired,
) -> bool {
    let of_a_peer =
        || key.metric == settings.metric || view.pools().any(|pool| pool.prefix.covers(key.destination));
    let replaced = || {
        let now = RouteKey { table: settings.table, metric: imports.metric, ..*key };
        now != *key && desired.routes.contains_key(&now)
    };
    imports.complete || replaced() || (key.metric != imports.metric && of_a_peer())
}

/// By the global address where that is on-link, else by the one of the link that the router is on. Never to this host itself.
fn next_hop(hop: &Hop, uplinks: &[LocalUplink]) -> Option<NextHop> {
    let on_link = |address| {
        uplinks.iter().find(|local| local.uplink.addresses.iter().any(|it| it.on_link.contains(address)))
    };
    let own =
        |address| uplinks.iter().any(|local| local.uplink.addresses.iter().any(|it| it.addr == address));
    let global = hop
        .global
        .filter(|address| !own(*address))
        .and_then(|gateway| Some(NextHop { gateway: Some(gateway), link: on_link(gateway)?.link }));
    global.or_else(|| {
        let gateway = hop.link_local?;
        let local = match &hop.interface {
            Some(name) => uplinks.iter().find(|local| *local.uplink.interface == **name)?,
            None => on_link(hop.router)?,
        };
        Some(NextHop { gateway: Some(gateway), link: local.link })
    })
}

#[cfg(test)]
mod tests;
