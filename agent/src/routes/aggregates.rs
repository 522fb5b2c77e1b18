//! Which pools may be refused as a whole. That depends on all peers, so it is counted once. Pure.

use sextant_proto::{Peer, Pool, PoolName, Prefix};

use super::{Assessment, Known};
use crate::{
    settings::{Direct, Topology},
    uplinks::LocalUplink,
};

/// The pools that this host might refuse, with what stands against that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregates(Vec<Aggregate>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Aggregate {
    pool: PoolName,
    prefix: Prefix,
    /// Peers of the pool that only a router has a path to.
    left_to_router: usize,
    /// Nodes with a next hop inside of it.
    with_next_hop_inside: usize,
}

impl Aggregates {
    /// Those that the host itself allows, before any peer is counted.
    pub fn new(known: &Known<'_>) -> Self {
        let none_yet = |pool: &Pool| Aggregate {
            pool: pool.name.clone(),
            prefix: pool.prefix,
            left_to_router: 0,
            with_next_hop_inside: 0,
        };
        Self(known.pools().filter(|pool| may_be_refused(known, pool)).map(none_yet).collect())
    }

    /// Counts a node.
    pub fn add(&mut self, peer: &Peer, assessment: &Assessment) {
        for aggregate in &mut self.0 {
            let of_pool = || peer.ready_claims().any(|claim| claim.pool == aggregate.pool);
            aggregate.left_to_router += usize::from(assessment.needs_router && of_pool());
            let inside = peer.next_hops.iter().any(|hop| aggregate.prefix.contains(*hop));
            aggregate.with_next_hop_inside += usize::from(inside);
        }
    }

    /// The prefixes that are refused here, but for longer routes inside.
    pub fn refused(&self) -> impl Iterator<Item = Prefix> {
        let stands = |it: &&Aggregate| it.left_to_router == 0 && it.with_next_hop_inside == 0;
        self.0.iter().filter(stands).map(|aggregate| aggregate.prefix)
    }
}

/// Whether this host may refuse traffic to the pool's unassigned prefixes, as far as it knows by itself. Not where a router
/// may have a path to them, and not where that would refuse an on-link prefix or a controller (DESIGN §2).
fn may_be_refused(known: &Known<'_>, pool: &Pool) -> bool {
    let left_to_router =
        known.settings.topology == Topology::Routed || known.settings.direct == Direct::Never;
    let mut prefixes = known.uplinks.iter().flat_map(|local| local.on_link.prefixes());
    let covers_on_link = prefixes.any(|prefix| prefix.overlaps(pool.prefix));
    let covers_controller = known.controllers.iter().any(|controller| pool.prefix.contains(*controller));
    !left_to_router && !has_only_routers(known) && !covers_on_link && !covers_controller
}

/// Whether this host has uplinks, and by its routes no neighbour on any of them: then all traffic is the router's.
fn has_only_routers(known: &Known<'_>) -> bool {
    let usable = |local: &&LocalUplink| local.works && !local.uplink.addresses.is_empty();
    let mut usable = known.uplinks.iter().filter(usable).peekable();
    usable.peek().is_some() && usable.all(|local| local.on_link.is_empty())
}
