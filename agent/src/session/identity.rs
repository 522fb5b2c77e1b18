//! This node, as its agent identifies itself to the controllers.

use sextant_proto::{InstanceId, NodeId, NodeName, PoolName, convert::MOST_CLAIMS};

/// This node and its agent.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) node: NodeName,
    pub(super) node_id: NodeId,
    /// New at each start of the agent.
    pub(super) instance: InstanceId,
    /// The pools of its settings, the primary one first.
    pub(super) pools: Vec<PoolName>,
}

impl Identity {
    /// Of an agent that starts.
    pub(super) fn new(node: NodeName, node_id: NodeId, pools: Vec<PoolName>) -> Self {
        Self { node, node_id, instance: InstanceId::random(), pools }
    }

    /// The order of its claims, for a controller.
    pub(super) fn pool_order(&self) -> Vec<String> {
        self.pools.iter().take(MOST_CLAIMS).map(ToString::to_string).collect()
    }
}
