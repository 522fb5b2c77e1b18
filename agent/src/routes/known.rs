//! What the desired routes depend on.

use std::net::Ipv6Addr;

use sextant_proto::{Claim, NodeName, NodeState, Pool};

use super::{Imports, Infrastructure};
use crate::{
    cluster::{Verdicts, View},
    settings::{Direct, RouteSettings, Topology},
    uplinks::{Gateways, LocalUplink},
};

/// All that this host knows of itself, of the cluster and of routers.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// Its claims.
    pub claims: &'a [Claim],
    /// The cluster.
    pub view: &'a View,
    /// Its interfaces towards the other hosts.
    pub uplinks: &'a [LocalUplink],
    /// The gateways that other processes' routes lead through.
    pub gateways: &'a Gateways,
    /// What this host's network stands on.
    pub infrastructure: &'a Infrastructure,
    /// Addresses of controllers, which no aggregate may cover.
    pub controllers: &'a [Ipv6Addr],
    /// This node is drained: it routes to no peer.
    pub withdrawn: bool,
    /// The verdicts on hosts of lost agents.
    pub verdicts: &'a Verdicts,
    /// Routes that routers announce.
    pub imports: &'a Imports,
    /// How routes look.
    pub settings: &'a RouteSettings,
}

impl<'a> Known<'a> {
    /// All pools. The pool of a claim is known even before any controller has answered.
    pub fn pools(&self) -> impl Iterator<Item = &'a Pool> + use<'a> {
        let (view, complete) = (self.view, self.view.is_complete());
        let of_claims = self.claims.iter().map(|claim| &claim.pool);
        let unannounced =
            of_claims.filter(move |own| !complete && !view.pools().any(|pool| pool.name == own.name));
        view.pools().chain(unannounced)
    }

    /// Whether the routers have all routes that this host has not, and refuse packets to unassigned prefixes: by the settings,
    /// or since this host has uplinks, and by its routes no neighbour on any of them.
    pub(super) fn routers_refuse(&self) -> bool {
        let usable = |local: &&LocalUplink| local.works && !local.uplink.addresses.is_empty();
        let mut usable = self.uplinks.iter().filter(usable).peekable();
        self.settings.topology == Topology::Routed
            || self.settings.direct == Direct::Never
            || usable.peek().is_some() && usable.all(|local| local.on_link.is_empty())
    }

    /// Whether no uplink has an address or a neighbour: then this host cannot tell which peers are on-link.
    pub(super) fn has_no_uplink(&self) -> bool {
        self.uplinks.iter().all(|local| local.uplink.addresses.is_empty() && local.on_link.is_empty())
    }
}

/// The state of this node, as far as `view` has it with `claim`; once it is ready, routers may route to it too (DESIGN I7).
///
/// A record of an earlier claim says nothing of this one. A record of another store does until this claim's store has sent
/// its snapshot, since the node was registered there with the prefix that it holds.
pub fn own_state(node: &NodeName, claim: &Claim, view: &View) -> Option<NodeState> {
    let same_store = view.incarnation() == Some(claim.epoch.incarnation);
    let own = view.peer(node)?.claim_of(claim.prefix)?;
    let of_claim = !same_store || own.claimed == claim.epoch.revision;
    of_claim.then_some(own.state)
}
