//! The routes that this host should have.

use std::net::Ipv6Addr;

use sextant_proto::{Claim, NodeName, NodeState, Peer, Pool, Prefix};

use super::{Entry, RouteMap};
use crate::{
    cluster::{Verdicts, View},
    kernel::{NextHop, NextHops, RouteKey, RouteTarget},
    settings::{Direct, RouteSettings, Topology},
    uplinks::{LocalUplink, ways},
};

/// What the routes depend on, besides the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// What it holds.
    pub claim: Option<&'a Claim>,
    /// Its interfaces towards the others.
    pub uplinks: &'a [LocalUplink],
    /// Addresses of controllers, which no aggregate may cover.
    pub controllers: &'a [Ipv6Addr],
    /// It is drained: it routes to nobody.
    pub withdrawn: bool,
    /// What was seen of hosts whose agents are gone.
    pub verdicts: &'a Verdicts,
    /// How routes look.
    pub settings: &'a RouteSettings,
}

/// The routes that should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// All of them.
    pub routes: RouteMap,
}

/// The routes that `host` should have, by what it knows of the cluster (DESIGN §2, I11): one to each announced peer that
/// is on-link, and is not dead; unreachables for the dead, for the host's own prefix and for the pools.
pub fn desired(host: &Host<'_>, view: &View) -> Desired {
    let mut routes: Vec<Entry> = host.claim.iter().flat_map(|claim| own(host, claim, view)).collect();
    let mut pools = pools(host, view);
    pools.retain(|pool| may_hold_aggregate(host, pool));
    // A host that has lost its uplinks knows nothing of where its peers are: what it refused, it goes on refusing.
    let blind = host.uplinks.iter().all(|local| local.uplink.addresses.is_empty());
    for peer in view.peers() {
        let hops = if is_routed(host, peer) { next_hops(host, peer) } else { None };
        let left_to_router = hops.is_none() && !blind && is_routed(host, peer);
        pools.retain(|pool| {
            let leads_there = left_to_router && peer.pool == pool.name;
            !leads_there && !peer.next_hops.iter().any(|hop| pool.prefix.contains(*hop))
        });
        routes.extend(hops.and_then(|hops| to_peer(host, peer, hops)));
    }
    routes.extend(pools.into_iter().map(|pool| unreachable(host, pool.prefix)));
    Desired { routes: routes.into() }
}

impl Desired {
    /// Whether `destination` is refused here as a whole, but for what is led on inside.
    pub(super) fn refuses(&self, host: &Host<'_>, destination: Prefix) -> bool {
        self.routes.contains_key(&unreachable(host, destination).0)
    }
}

/// What of its own prefix no bridge has is refused; and the prefix is marked while it may be exported.
fn own(host: &Host<'_>, claim: &Claim, view: &View) -> impl Iterator<Item = Entry> {
    let exported = !host.withdrawn && is_announced(host.node, claim, view);
    let mark = host.settings.mark.filter(|_| exported).map(|mark| {
        let key = RouteKey { table: mark.table, destination: claim.prefix, metric: mark.metric };
        (key, RouteTarget::Unreachable)
    });
    std::iter::once(unreachable(host, claim.prefix)).chain(mark)
}

fn unreachable(host: &Host<'_>, destination: Prefix) -> Entry {
    let RouteSettings { table, unreachable_metric, .. } = *host.settings;
    (RouteKey { table, destination, metric: unreachable_metric }, RouteTarget::Unreachable)
}

fn to_peer(host: &Host<'_>, peer: &Peer, hops: NextHops) -> Option<Entry> {
    let RouteSettings { table, metric, direct, .. } = *host.settings;
    let key = RouteKey { table, destination: peer.prefix, metric };
    // Of the same key, so that one takes the other's place in one step.
    let target = if host.verdicts.is_dead(peer) { RouteTarget::Unreachable } else { RouteTarget::Via(hops) };
    (!host.withdrawn && direct == Direct::OnLink).then_some((key, target))
}

/// What `view` says of the claim of this node. A record of an earlier claim says nothing of it; a record of another store does
/// until this claim's store has sent its snapshot, since the node was registered there with the prefix that it holds.
pub fn own_record<'a>(node: &NodeName, claim: &Claim, view: &'a View) -> Option<&'a Peer> {
    let same_store = view.incarnation() == Some(claim.epoch.incarnation);
    let of_claim =
        |own: &&Peer| own.prefix == claim.prefix && (!same_store || own.claimed == claim.epoch.revision);
    view.peer(node).filter(of_claim)
}

/// Whether others may route to what `claim` gave this node: then it may be exported to a router too (DESIGN I7).
fn is_announced(node: &NodeName, claim: &Claim, view: &View) -> bool {
    own_record(node, claim, view).is_some_and(|own| own.state == NodeState::Ready)
}

/// All pools that are known; that of the own claim is, even before any controller has answered.
pub(super) fn pools<'a>(host: &Host<'a>, view: &'a View) -> Vec<&'a Pool> {
    let told: Vec<&Pool> = view.pools().collect();
    let own =
        host.claim.map(|claim| &claim.pool).filter(|own| !told.iter().any(|pool| pool.name == own.name));
    let not_told = own.filter(|_| !view.is_complete());
    told.into_iter().chain(not_told).collect()
}

fn is_routed(host: &Host<'_>, peer: &Peer) -> bool {
    peer.state == NodeState::Ready && peer.name != *host.node
}

/// Which of the ways to a peer to use: all that work where traffic is to be balanced, else the first of them. If none
/// seems to, all seem as good. `None` if there is no way.
fn next_hops(host: &Host<'_>, peer: &Peer) -> Option<NextHops> {
    let all = || ways(host.uplinks, peer).map(|(_, hop)| hop);
    let working = || {
        let works = |(local, hop): &(&LocalUplink, NextHop)| local.works && !host.verdicts.is_silent(hop);
        ways(host.uplinks, peer).filter(works).map(|(_, hop)| hop)
    };
    if !host.settings.balance {
        return working().next().or_else(|| all().next()).map(NextHops::from);
    }
    let working: NextHops = working().collect();
    let used = if working.is_empty() { all().collect() } else { working };
    Some(used).filter(|used| !used.is_empty())
}

/// Whether traffic to the pool's unused prefixes may be refused here, as far as this host knows by itself. Not where that
/// would refuse what must go to a router: an on-link prefix, a controller; nor, as the caller sees, a peer that is not
/// on-link, or a next hop (DESIGN §5).
fn may_hold_aggregate(host: &Host<'_>, pool: &Pool) -> bool {
    let left_to_router = host.settings.topology == Topology::Routed || host.settings.direct == Direct::Never;
    let mut addresses = host.uplinks.iter().flat_map(|local| &local.uplink.addresses);
    let covers_on_link = addresses.any(|address| address.on_link.overlaps(pool.prefix));
    let covers_controller = host.controllers.iter().any(|controller| pool.prefix.contains(*controller));
    !left_to_router && !covers_on_link && !covers_controller
}

#[cfg(test)]
mod tests;
