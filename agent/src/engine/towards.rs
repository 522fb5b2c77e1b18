//! What the engine has in mind for one node's prefix: `sextant trace`.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Prefix, Revision};

use super::{Engine, Pending};
use crate::{
    kernel::{KernelError, RouteKey, RouteTarget},
    routes::{Assessment, PeerState},
};

/// What should lead to a node, by what this agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Towards {
    /// Why there is a direct route to it, or none; nothing if no node of this name is known.
    pub state: Option<PeerState>,
    /// The node's host prefix that is asked about, or all of them; if it is known.
    pub prefixes: Vec<Prefix>,
    /// What the agent's route to it should do, if it should have one.
    pub wanted: Option<RouteTarget>,
    /// What is to be changed about that route and is not.
    pub pending: Vec<Pending>,
    /// Nothing is changed until a resume.
    pub paused: bool,
    /// What the agent knows.
    pub revision: Revision,
}

impl Engine {
    pub(super) async fn towards(&self, node: &NodeName, target: Ipv6Addr) -> Result<Towards, KernelError> {
        let run = self.dry_run().await?;
        let known = run.known();
        let peer = known.view.peer(node);
        let claims = peer.into_iter().flat_map(|peer| &peer.claims);
        let of_target = claims.clone().find(|claim| claim.prefix.contains(target));
        let prefixes: Vec<Prefix> = match of_target {
            Some(claim) => vec![claim.prefix],
            None => claims.map(|claim| claim.prefix).collect(),
        };
        let (table, metric) = (known.settings.table, known.settings.metric);
        let route =
            |prefix: &Prefix| run.desired.routes.get(&RouteKey { table, destination: *prefix, metric });
        Ok(Towards {
            state: peer.map(|peer| {
                let assessment = Assessment::of(&known, peer);
                of_target.map_or(assessment.state, |claim| assessment.of_claim(&known, claim))
            }),
            wanted: prefixes.iter().find_map(route).cloned(),
            pending: run.pending(|key| prefixes.contains(&key.destination)),
            prefixes,
            paused: run.is_paused(),
            revision: run.revision(),
        })
    }
}
