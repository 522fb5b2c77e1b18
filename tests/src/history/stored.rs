//! Reads the store's content at the end: directly and linearizable, without a controller.

use anyhow::Context;
use sextant_controller::{
    keys::{Key, Keys},
    records::{ClaimRecord, HeldClaim, NodeRecord, Record},
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
                let ClaimRecord { node, node_id, pool, .. } = record;
                stored.claims.push(StoredClaim { prefix, pool, node, node_id, epoch: entry.created });
            }
            Some(Key::Node(node)) => {
                let record = NodeRecord::decode(&entry.value).with_context(|| entry.key.clone())?;
                let NodeRecord { node_id, claims, .. } = record;
                let held = |HeldClaim { prefix, pool, .. }| {
                    let node = node.clone();
                    StoredNode { node, node_id, prefix, pool }
                };
                stored.nodes.extend(claims.into_iter().map(held));
            }
            _ => {}
        }
    }
    Ok(stored)
}
