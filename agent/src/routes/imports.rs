//! Routes that routers announced to this host by BGP.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc};

use sextant_proto::Prefix;

/// What routers have announced, for the engine. By default nothing, by none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imports {
    /// The best path to each prefix.
    pub routes: BTreeMap<Prefix, Arc<ReceivedPath>>,
    /// The metric of the routes.
    pub metric: u32,
    /// What is in the kernel with that metric and not among `routes` is left over.
    pub complete: bool,
}

impl Imports {
    /// Before any router has said anything, of those that may.
    pub fn none_yet(metric: u32, routers: usize) -> Self {
        Self { routes: BTreeMap::new(), metric, complete: routers == 0 }
    }
}

impl Default for Imports {
    fn default() -> Self {
        Self::none_yet(0, 0)
    }
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The next hop, if it is a global address.
    pub global: Option<Ipv6Addr>,
    /// The next hop on the session's link (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// The router's address in the session.
    pub router: Ipv6Addr,
    /// The session's interface, where it is named.
    pub interface: Option<Arc<str>>,
}

/// A path, by the attributes that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPath {
    /// Where it leads.
    pub hop: Hop,
    /// The higher, the better.
    pub local_pref: u32,
    /// The shorter, the better.
    pub as_path_len: usize,
    /// IGP (0) before EGP (1) before incomplete (2).
    pub origin: u8,
    /// It comes from another AS: better.
    pub external: bool,
    /// The AS next to us on it, in which `med` means something; 0 if it is our own.
    pub neighbour_as: u32,
    /// The lower, the better.
    pub med: u32,
}

impl ReceivedPath {
    /// RFC 4271 §9.1.2.2, as one order: MEDs are compared within one AS only.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let worth = std::cmp::Reverse(self.local_pref);
        (worth, self.as_path_len, self.origin, !self.external, self.neighbour_as, self.med)
    }
}
