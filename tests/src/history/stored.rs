//! Reads the store's content at the end: directly and linearizable, without a controller.

use anyhow::Context;
use sextant_controller::{
    keys::{Key, Keys},
    records::{ClaimRecord, NodeRecord, Record},
    registry::Registry,
};

use super::{Stored, StoredClaim, StoredNode};

/// All claims and nodes of the cluster of `keys`.
///
/// # Errors
/// If the store does not answer, or has a record that cannot be decoded.
pub async fn read(store: &dyn Registry, keys: &Keys) -> anyhow::Result<Stored> {
    let mut stored = Stored::default();
    for entry in store.list(&keys.all()).await?.entries {
        match keys.parse(&entry.key) {
            Some(Key::Claim(prefix)) => {
                let record = ClaimRecord::decode(&entry.value).with_context(|| entry.key.clone())?;
                let (node, node_id, epoch) = (record.node, record.node_id, entry.created);
                stored.claims.push(StoredClaim { prefix, node, node_id, epoch });
            }
            Some(Key::Node(node)) => {
                let record = NodeRecord::decode(&entry.value).with_context(|| entry.key.clone())?;
                let held = |prefix| StoredNode { node: node.clone(), node_id: record.node_id, prefix };
                stored.nodes.extend(record.prefixes().into_iter().map(held));
            }
            _ => {}
        }
    }
    Ok(stored)
}
