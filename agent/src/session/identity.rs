//! This node, as its agent identifies itself to the controllers.

use sextant_proto::{
    InstanceId, NodeId, NodeName, PoolName, Prefix,
    convert::{MOST_ACCEPTED, MOST_CLAIMS},
    v1,
};

/// This node and its agent.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) node: NodeName,
    pub(super) node_id: NodeId,
    /// New at each start of the agent.
    pub(super) instance: InstanceId,
    /// The pools of its settings, the primary one first.
    pub(super) pools: Vec<PoolName>,
    /// The prefixes that it takes pools of, by its settings; empty: all.
    pub(super) accept_pools: Vec<Prefix>,
}

impl Identity {
    /// Of an agent that starts.
    pub(super) fn new(
        node: NodeName,
        node_id: NodeId,
        pools: Vec<PoolName>,
        accept_pools: Vec<Prefix>,
    ) -> Self {
        Self { node, node_id, instance: InstanceId::random(), pools, accept_pools }
    }

    /// The prefixes that it takes pools of, for a controller. None are sent if they are too many for a message: a part of them would
    /// exclude the others.
    pub(super) fn accept_pools(&self) -> Vec<v1::Prefix> {
        let sent = Some(&self.accept_pools).filter(|prefixes| prefixes.len() <= MOST_ACCEPTED);
        sent.into_iter().flatten().map(|&prefix| prefix.into()).collect()
    }

    /// The order of its claims, for a controller.
    pub(super) fn pool_order(&self) -> Vec<String> {
        self.pools.iter().take(MOST_CLAIMS).map(ToString::to_string).collect()
    }
}
