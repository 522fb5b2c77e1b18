//! The result of a pass, for the session and the BGP speaker.

use std::net::Ipv6Addr;

use sextant_proto::{Conflict, Epoch, FailedRoute, Incarnation, Prefix, Revision, Uplink, Verdict};

/// What peers need to know of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Its interfaces towards them.
    pub uplinks: Vec<Uplink>,
    /// The claims that it is set up for, the primary one first.
    pub claims: Vec<AnnouncedClaim>,
}

/// A claim that this host is set up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedClaim {
    /// Since when it is held.
    pub epoch: Epoch,
    /// What of its host prefix containers have.
    pub container_prefixes: Vec<Prefix>,
}

/// The result of the last pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The claims that the host holds.
    pub holding: Vec<Epoch>,
    /// The revision of the view that is in the kernel, except for failed and held routes.
    pub applied: Option<(Incarnation, Revision)>,
    /// Routes that the kernel refused.
    pub failed: Vec<FailedRoute>,
    /// Routes that another process changes again and again.
    pub flapping: Vec<FailedRoute>,
    /// Others' routes for the same destinations.
    pub conflicts: Vec<Conflict>,
    /// Verdicts on hosts without agents.
    pub verdicts: Vec<Verdict>,
    /// The pools that are refused as a whole.
    pub refused_pools: Vec<Prefix>,
    /// The host is set up, or the router is.
    pub set_up: bool,
    /// Set once the host is set up: peers may route to it. A router has none.
    pub announcement: Option<Announcement>,
    /// The routes to peers are removed, because this host is drained.
    pub withdrawn: bool,
    /// The number of routes to absent peers that the brake keeps until a resume.
    pub held: u32,
    /// No change is made until a resume.
    pub paused: bool,
    /// What the host's network stands on, and its controllers: no new prefix may contain it. `None` before the first pass.
    pub infrastructure: Option<Vec<Ipv6Addr>>,
}

impl Report {
    /// Whether no route is refused, held, or changed by another process.
    pub(super) fn all_routes_stand(&self) -> bool {
        self.failed.is_empty() && self.flapping.is_empty() && self.held == 0
    }
}
