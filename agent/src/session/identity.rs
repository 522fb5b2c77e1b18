//! This node, as its agent identifies itself to the controllers.

use sextant_proto::{InstanceId, NodeId, NodeName};

/// This node and its agent.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) node: NodeName,
    pub(super) node_id: NodeId,
    /// New at each start of the agent.
    pub(super) instance: InstanceId,
}

impl Identity {
    /// Of an agent that starts.
    pub(super) fn new(node: NodeName, node_id: NodeId) -> Self {
        Self { node, node_id, instance: InstanceId::random() }
    }
}
