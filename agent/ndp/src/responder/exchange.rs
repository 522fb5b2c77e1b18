//! What the responder is given, and what it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    losses::Losses,
    message::Mac,
    proxy::{Counts, Place},
    targets::InUse,
    tracked::Tracked,
};

/// What the responder is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Where the host stands.
    pub place: Place,
    /// The addresses of the engine's running containers.
    pub expected: Arc<BTreeSet<Ipv6Addr>>,
    /// How many ports the bridges have.
    pub ports: usize,
    /// How many have come so far.
    pub arrivals: u64,
    /// What the bridges have lost.
    pub losses: Losses,
    /// The addresses that the kernel answers for by its own entries.
    pub kernel: Tracked<Ipv6Addr>,
}

/// What it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The addresses in use; `None` before the first look.
    pub alive: Option<Tracked<Ipv6Addr>>,
    /// What was answered.
    pub counts: Counts,
    /// Packets that were no valid neighbour discovery.
    pub invalid: u64,
    /// The number of multicast groups that it has joined.
    pub groups: usize,
    /// Addresses that others on the uplinks have advertised, with their link-layer addresses.
    pub others: BTreeMap<Ipv6Addr, Mac>,
    /// Addresses that a neighbour goes on asking for although it is answered, with its link-layer address.
    pub unheeded: BTreeMap<Ipv6Addr, Mac>,
    /// What it cannot do.
    pub trouble: Option<Trouble>,
}

/// What the responder cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// An interface cannot be heard.
    Unheard {
        /// Its index.
        link: u32,
        /// Whether neighbours solicit there.
        uplink: bool,
        /// Why.
        error: String,
    },
    /// The groups of addresses in use cannot be joined: the reason.
    Groups(String),
}

/// A request for details, which change too often to be reported each time.
pub type Ask = oneshot::Sender<Details>;

/// What it knows in detail, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The addresses in use; those of the bridges, first, without details.
    pub in_use: Vec<(Ipv6Addr, Option<InUse>)>,
    /// What was answered.
    pub counts: Counts,
    /// The number of joined groups of each uplink.
    pub groups: BTreeMap<u32, u64>,
    /// The links that it hears.
    pub heard: BTreeSet<u32>,
}
