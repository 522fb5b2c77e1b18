//! The routes of an UPDATE, for the import. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rustbgpd_wire::{Afi, MpReachNlri, NlriEntry, PathAttribute, Safi};
use sextant_proto::Prefix;

use super::{
    decode::{Treatment, Update},
    encode::{GRACEFUL_SHUTDOWN, SessionParameters},
};
use crate::routes::{Hop, ReceivedPath};

/// LOCAL_PREF unless an internal neighbour sends another one.
const LOCAL_PREF: u32 = 100;

/// What an UPDATE changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::bgp) struct RouteUpdate {
    /// Prefixes that are not reached through the router: withdrawn, with a path that leads back here, or without a usable
    /// path.
    pub(in crate::bgp) withdrawn: Vec<Prefix>,
    /// Prefixes that are reached by this path.
    pub(in crate::bgp) announced: Option<(Vec<Prefix>, ReceivedPath)>,
    /// Whether it is the End-of-RIB marker (RFC 4724 §2).
    pub(in crate::bgp) end_of_rib: bool,
}

/// The routes of an UPDATE of `router`, whose session uses `interface` if that is named.
pub(in crate::bgp) fn route_update(
    update: &Update,
    parameters: &SessionParameters<'_>,
    own_id: Ipv4Addr,
    router: Ipv6Addr,
    interface: Option<&Arc<str>>,
) -> RouteUpdate {
    let attributes = &update.parsed.attributes;
    let mut read = RouteUpdate::default();
    let mut reached = None;
    for attribute in attributes {
        match attribute {
            PathAttribute::MpUnreachNlri(it) if is_ours(it.afi, it.safi) => {
                read.withdrawn.extend(it.withdrawn.iter().filter_map(prefix));
                read.end_of_rib = it.withdrawn.is_empty() && attributes.len() == 1;
            }
            PathAttribute::MpReachNlri(it) if is_ours(it.afi, it.safi) => reached = Some(it.as_ref()),
            _ => {}
        }
    }
    let Some(reached) = reached else { return read };
    let prefixes = reached.announced.iter().filter_map(prefix).collect();
    let usable = update.treatment != Treatment::AsWithdrawal && !leads_back(attributes, parameters, own_id);
    match hop(reached, router, interface).filter(|_| usable) {
        Some(hop) => read.announced = Some((prefixes, path(attributes, parameters, hop))),
        // RFC 4271 §3.1: what is announced anew takes the place of what was.
        None => read.withdrawn.extend(prefixes),
    }
    read
}

fn is_ours(afi: Afi, safi: Safi) -> bool {
    (afi, safi) == (Afi::Ipv6, Safi::Unicast)
}

fn prefix(entry: &NlriEntry) -> Option<Prefix> {
    match entry.prefix {
        rustbgpd_wire::Prefix::V6(it) => Prefix::containing(it.addr, it.len),
        rustbgpd_wire::Prefix::V4(_) => None,
    }
}

/// Our AS is on the path, or within our AS we are (RFC 4271 §9.1.2, RFC 4456 §8).
fn leads_back(attributes: &[PathAttribute], parameters: &SessionParameters<'_>, own_id: Ipv4Addr) -> bool {
    attributes.iter().any(|attribute| match attribute {
        PathAttribute::AsPath(path) => path.contains_asn(parameters.local_as),
        PathAttribute::OriginatorId(id) => *id == own_id,
        _ => false,
    })
}

/// RFC 2545 §3, and what some routers say over link-local addresses: such a one where the global one should be.
fn hop(reached: &MpReachNlri, router: Ipv6Addr, interface: Option<&Arc<str>>) -> Option<Hop> {
    let IpAddr::V6(first) = reached.next_hop else { return None };
    let link_local = |it: &Ipv6Addr| it.is_unicast_link_local();
    let global = Some(first).filter(|it| !link_local(it) && !it.is_unspecified() && !it.is_multicast());
    let link_local = reached.link_local_next_hop.filter(link_local).or(Some(first).filter(link_local));
    let hop = Hop { global, link_local, router, interface: interface.cloned() };
    (global.is_some() || link_local.is_some()).then_some(hop)
}

fn path(attributes: &[PathAttribute], parameters: &SessionParameters<'_>, hop: Hop) -> ReceivedPath {
    let external = !parameters.between().internal;
    let mut path = ReceivedPath {
        hop,
        local_pref: LOCAL_PREF,
        as_path_len: 0,
        origin: 2,
        external,
        neighbour_as: 0,
        med: 0,
    };
    let mut leaving = false;
    for attribute in attributes {
        match attribute {
            PathAttribute::Origin(origin) => path.origin = *origin as u8,
            PathAttribute::AsPath(it) => {
                path.as_path_len = it.len();
                path.neighbour_as = it.asns().next().unwrap_or(0);
            }
            PathAttribute::Med(med) => path.med = *med,
            PathAttribute::LocalPref(worth) if !external => path.local_pref = *worth,
            PathAttribute::Communities(all) => leaving = all.contains(&GRACEFUL_SHUTDOWN),
            _ => {}
        }
    }
    // RFC 8326 §4.2: it is about to go.
    path.local_pref = if leaving { 0 } else { path.local_pref };
    path
}

#[cfg(test)]
mod tests;
