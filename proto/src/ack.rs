//! Agents' acknowledgements.

use crate::{BgpNeighbour, Conflict, FailedRoute, Prefix, Problem, Revision, Verdict};

/// An agent's acknowledgement: its report of its kernel and host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ack {
    /// Everything up to this revision is in the kernel, except failed routes.
    pub revision: Revision,
    /// The routes that the kernel refused.
    pub failed: Vec<FailedRoute>,
    /// Routes of others for the same destinations.
    pub conflicts: Vec<Conflict>,
    /// The number of routes to absent peers that the brake keeps until an operator resumes.
    pub held: u32,
    /// The agent's verdicts on hosts without an agent.
    pub verdicts: Vec<Verdict>,
    /// The agent's BGP neighbours.
    pub bgp: Vec<BgpNeighbour>,
    /// The problems of its host. They do not affect the acknowledged revision.
    pub problems: Vec<Problem>,
    /// The pools that its host refuses as a whole, by an unreachable route; agents of earlier versions report none.
    pub refused_pools: Vec<Prefix>,
    /// Its host answers neighbour solicitations for its containers (topology `ndp-proxy`).
    pub ndp_proxy: bool,
}

impl Ack {
    /// How many revisions it is behind `newest`.
    pub fn behind(&self, newest: Revision) -> u64 {
        newest.0.saturating_sub(self.revision.0)
    }
}

/// An agent's acknowledgement at a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The acknowledgement; without verdicts if it comes from another controller.
    pub ack: Ack,
    /// The agent's version.
    pub version: String,
}
