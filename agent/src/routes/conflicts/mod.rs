//! Others' routes that take packets from ours. Pure.
//!
//! The kernel takes the longest route to a destination, in the first table that has one: so a route takes packets from ours not only
//! where both have one destination.

use std::collections::BTreeSet;

use sextant_proto::{Claim, Prefix};

use super::{Actual, Desired, Entry, Imports, networks::is_on};
use crate::{
    kernel::{LOCAL_TABLE, LOOPBACK_LINK, Route, RouteKey, RouteProtocol, RouteTarget},
    uplinks::{LocalUplink, Lookup},
};

/// A route of another process, and the one of ours that it takes packets from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture<'a> {
    /// The other's key.
    pub key: RouteKey,
    /// The other's protocol.
    pub protocol: RouteProtocol,
    /// Where the other leads.
    pub target: &'a RouteTarget,
    /// The destination of ours.
    pub ours: Prefix,
    /// Ours is taken as long as it stands.
    pub ours_wins: bool,
}

/// What is known of our routes, and of those of others that are right.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Our routes.
    pub desired: &'a Desired,
    /// Our table.
    pub table: u32,
    /// The tables in which the kernel looks before ours.
    pub before: &'a [Lookup],
    /// The pools of which the unassigned addresses are refused.
    pub pools: &'a [Prefix],
    /// This host's claims: its containers are in them, and the routes of its engines.
    pub claims: &'a [Claim],
    /// What routers announce: a host that takes it has others' routes to the same on purpose.
    pub imports: &'a Imports,
    /// The interfaces towards the other hosts.
    pub uplinks: &'a [LocalUplink],
    /// The links that this host's containers are on.
    pub inside: &'a BTreeSet<u32>,
    /// The routes to its containers.
    pub networks: &'a [Entry],
}

impl<'a> Ground<'a> {
    /// All of them, in the order of the others' keys. Takes time for others' routes, and none for ours.
    pub fn captures(&self, actual: &'a Actual) -> Vec<Capture<'a>> {
        let mut found: Vec<Capture<'a>> = Vec::new();
        let thrown = self.thrown(actual);
        for (key, occupants) in &actual.foreign {
            let captures = occupants
                .iter()
                .filter_map(|(protocol, target)| self.capture(key, *protocol, target, &thrown));
            found.extend(captures);
        }
        once_per_address(&mut found);
        found
    }

    /// Whether a route of another process takes packets from ours, if no other one throws them to the next table; or throws them.
    pub fn is_capturing(&self, route: &Route) -> bool {
        let throws = route.target == RouteTarget::THROW && route.key.table != self.table;
        self.capture(&route.key, route.protocol, &route.target, &[]).is_some()
            || throws && self.losers(&route.key).next().is_some()
    }

    /// The routes of earlier tables that let the kernel look into the next one.
    fn thrown(&self, actual: &Actual) -> Vec<RouteKey> {
        let throws = |occupants: &[(RouteProtocol, RouteTarget)]| {
            occupants.iter().any(|(_, target)| *target == RouteTarget::THROW)
        };
        let earlier = actual.foreign.iter().filter(|(key, it)| key.table != self.table && throws(it));
        earlier.map(|(key, _)| *key).collect()
    }

    fn capture<'t>(
        &self,
        key: &RouteKey,
        protocol: RouteProtocol,
        target: &'t RouteTarget,
        thrown: &[RouteKey],
    ) -> Option<Capture<'t>> {
        if let Some((network, _)) = self.network_taken_by(key, protocol, target) {
            let beside = (network.table, network.destination) == (key.table, key.destination);
            let ours_wins = beside && network.metric < key.metric;
            return Some(Capture { key: *key, protocol, target, ours: network.destination, ours_wins });
        }
        let loses = |(ours, our_target): &&Entry| {
            let beside = (ours.table, ours.destination) == (key.table, key.destination);
            let alike = !beside && leads_alike(our_target, target);
            !alike && !self.is_right(key, protocol, target, ours) && !is_thrown(thrown, key, ours.destination)
        };
        let ends = *target != RouteTarget::THROW || key.table == self.table;
        let (ours, _) = self.losers(key).find(loses).filter(|_| *target != RouteTarget::ANYCAST && ends)?;
        let beside = (ours.table, ours.destination) == (key.table, key.destination);
        let ours_wins = beside && ours.metric < key.metric;
        Some(Capture { key: *key, protocol, target, ours: ours.destination, ours_wins })
    }

    /// The network of containers here that loses packets to one of this key, which is inside of it. A part of it may be that of
    /// another engine's network, whose link has an address there, and a single address that of a container on a link of its own.
    fn network_taken_by(
        &self,
        key: &RouteKey,
        protocol: RouteProtocol,
        target: &RouteTarget,
    ) -> Option<&'a Entry> {
        let is_of_container = || match target {
            RouteTarget::Via(hops) => {
                key.destination.len() == 128
                    && hops.iter().all(|hop| hop.gateway.is_none())
                    && !self.leads_out(target)
            }
            target => [RouteTarget::LOCAL, RouteTarget::ANYCAST].contains(target),
        };
        let is_right = protocol == RouteProtocol::KERNEL || is_on(target, self.inside) || is_of_container();
        let takes =
            |(network, _): &&Entry| network.destination.covers(key.destination) && self.may_win(key, network);
        // The longest one is that of the containers.
        let ends = |(network, _): &&Entry| *target != RouteTarget::THROW || key.table == network.table;
        let networks = self.networks.iter().filter(takes).filter(|_| !is_right).filter(ends);
        networks.max_by_key(|(network, _)| network.destination.len())
    }

    /// Whether the kernel may look into the table of `key` before, or as well as, that of a network.
    fn may_win(&self, key: &RouteKey, network: &RouteKey) -> bool {
        let lookup = self.before.iter().find(|lookup| lookup.table == key.table);
        key.table == network.table
            || lookup.is_some_and(|it| it.counts(key.destination.addr(), key.destination.len()))
    }

    /// The routes of ours that lose packets to one of this key, if that leads elsewhere.
    fn losers(&self, key: &RouteKey) -> impl Iterator<Item = &'a Entry> {
        let here = RouteKey { table: self.table, ..*key };
        let lookup = self.before.iter().find(|lookup| lookup.table == key.table);
        let before = lookup.is_some_and(|it| it.counts(key.destination.addr(), key.destination.len()));
        let routes = &self.desired.routes;
        let shorter = || routes.deciding(&here).or_else(|| routes.around(&here));
        let shorter = (before || key.table == self.table).then(shorter).flatten();
        // A route of an earlier table is taken however long ours are.
        let longer = before.then(|| routes.inside(&here).filter(|ours| self.is_elsewhere(ours)));
        shorter.into_iter().chain(longer.into_iter().flatten())
    }

    /// Whether a route of ours is to other nodes or to unassigned addresses.
    fn is_elsewhere(&self, (key, _): &Entry) -> bool {
        !self.claims.iter().any(|claim| claim.prefix == key.destination)
    }

    /// Whether another's route to this place is as it should be.
    fn is_right(
        &self,
        key: &RouteKey,
        protocol: RouteProtocol,
        target: &RouteTarget,
        ours: &RouteKey,
    ) -> bool {
        let imported = |prefix| self.imports.routes.contains_key(prefix);
        // Containers of this host are behind interfaces with addresses of its own prefix.
        let own = self.claims.iter().find(|claim| claim.prefix.covers(key.destination));
        let of_engine =
            own.is_some_and(|claim| claim.prefix != key.destination || protocol == RouteProtocol::KERNEL);
        let of_engine = of_engine && (protocol == RouteProtocol::KERNEL || !self.leads_out(target));
        let unassigned = self.pools.contains(&ours.destination);
        imported(&key.destination)
            || imported(&ours.destination)
            || of_engine
            || unassigned && self.is_of_link(target)
    }

    fn leads_out(&self, target: &RouteTarget) -> bool {
        let outside = |link| self.uplinks.iter().any(|local| local.link == link);
        matches!(target, RouteTarget::Via(hops) if hops.iter().any(|hop| outside(hop.link)))
    }

    /// Whether it is one of this host's links or own addresses, which no node is given (DESIGN §2).
    fn is_of_link(&self, target: &RouteTarget) -> bool {
        let is_link = |link| link == LOOPBACK_LINK || self.uplinks.iter().any(|local| local.link == link);
        match target {
            RouteTarget::Via(hops) => hops.iter().all(|hop| hop.gateway.is_none() && is_link(hop.link)),
            target => *target == RouteTarget::LOCAL,
        }
    }
}

/// Whether packets fare the same by both.
pub(super) fn leads_alike(ours: &RouteTarget, theirs: &RouteTarget) -> bool {
    match (ours, theirs) {
        (RouteTarget::Via(ours), RouteTarget::Via(theirs)) => {
            theirs.iter().all(|hop| ours.iter().any(|our| (our.gateway, our.link) == (hop.gateway, hop.link)))
        }
        (RouteTarget::Unreachable, theirs) => {
            [RouteTarget::Unreachable, RouteTarget::PROHIBIT].contains(theirs)
        }
        _ => false,
    }
}

/// Whether a longer route of the same table than `key` throws all packets to a destination to the next table.
fn is_thrown(thrown: &[RouteKey], key: &RouteKey, destination: Prefix) -> bool {
    thrown.iter().any(|throw| {
        let longer = throw.table == key.table && key.destination.covers(throw.destination);
        longer && throw.destination.covers(destination)
    })
}

/// An address comes with several routes: that of its link is enough.
fn once_per_address(found: &mut Vec<Capture<'_>>) {
    let of_kernel = |it: &&Capture<'_>| it.protocol == RouteProtocol::KERNEL && it.key.table != LOCAL_TABLE;
    let links: Vec<Prefix> = found.iter().filter(of_kernel).map(|it| it.key.destination).collect();
    let has_link = |prefix: Prefix| links.iter().any(|link| link.covers(prefix));
    found.retain(|it| it.key.table != LOCAL_TABLE || !has_link(it.key.destination));
}

#[cfg(test)]
mod tests;
