//! The state that the session hands to the engine.

use std::{net::Ipv6Addr, sync::Arc};

use sextant_proto::{Claim, Prefix};

use super::View;

/// What the session knows.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// What this node holds: at most one claim per pool, the primary one first.
    pub claims: Vec<Claim>,
    /// What is known of the cluster.
    pub view: Arc<View>,
    /// This node is drained, or its peers have withdrawn: it routes to nobody.
    pub withdrawn: bool,
    /// The addresses that controllers were reached at.
    pub controllers: Vec<Ipv6Addr>,
}

impl Input {
    /// The claims that the link is answered for. A drain ends the answers together with the routes: for neighbours on the link, the
    /// answers are the route to the containers.
    pub fn answered_claims(&self) -> &[Claim] {
        if self.withdrawn { &[] } else { &self.claims }
    }

    /// The prefixes on the container bridge, one for each claim.
    pub fn container_prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.claims.iter().map(Claim::container_prefix)
    }
}
