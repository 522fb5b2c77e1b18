//! The transaction of a claim, with the same guards, operations and lengths of values as the controller's.

use etcd_client::{Compare, CompareOp, TxnOp};
use prost::Message;
use sextant_controller::{
    keys::{Keys, Space},
    registry::{Guard, Op, Txn},
};
use sextant_proto::{NodeId, Pool, PoolName, Prefix, Revision, store::v1 as stored, v1};

/// The pool of all claims.
pub(super) const POOL: &str = "2001:db8:8000::/40";
pub(super) const HOST_LEN: u8 = 64;

/// The pool's record.
pub(super) fn pool() -> Pool {
    let prefix = POOL.parse().expect("a prefix");
    Pool::new(name("main"), prefix, HOST_LEN.into(), HOST_LEN.into()).expect("a pool")
}

pub(super) fn name(text: &str) -> PoolName {
    text.parse().expect("a name")
}

/// The records of node `number`, which holds the prefix of this number; if `announced`, with an uplink.
pub(super) fn records(keys: &Keys, number: u32, announced: bool) -> Vec<Op> {
    let (node, prefix) = (format!("host{number}"), prefix(number));
    let (node_id, now) = (NodeId::random(), sextant_controller::records::unix_ms());
    let claim = stored::Claim {
        node: node.clone(),
        node_id: node_id.into(),
        pool: "main".into(),
        claimed_unix_ms: now,
        prior: None,
    };
    let address = v1::InterfaceAddress { address: prefix.addr().octets().to_vec().into(), length: 64 };
    let uplink = v1::Uplink { interface: "eth0".into(), addresses: vec![address] };
    let state = if announced { v1::NodeState::Ready } else { v1::NodeState::Joining };
    let record = stored::Node {
        node_id: node_id.into(),
        prefix: Some(prefix.into()),
        pool: "main".into(),
        state: state.into(),
        uplinks: announced.then_some(uplink).into_iter().collect(),
        since_unix_ms: now,
        ..Default::default()
    };
    let node = node.parse().expect("letters and digits");
    vec![
        Op::put(keys.claim(prefix), claim.encode_to_vec()),
        Op::put(keys.node(&node), record.encode_to_vec()),
    ]
}

/// A claim of node `number`, in a store whose pool was last written at revision `pool`.
pub(super) fn claim(keys: &Keys, number: u32, pool: Revision) -> Txn {
    let (shortest, node) = (self::pool().prefix.len(), format!("host{number}").parse().expect("a name"));
    let mut guards = vec![Guard::Absent(keys.node(&node)), Guard::Unchanged(keys.pool(&name("main")), pool)];
    for space in [Space::Claims, Space::Reservations] {
        guards.extend(keys.nothing_overlaps(space, prefix(number), shortest));
    }
    Txn { guards, ops: records(keys, number, false) }
}

/// The same transaction for etcd-client.
pub(super) fn of_etcd(txn: Txn) -> etcd_client::Txn {
    let guard = |guard: Guard| match guard {
        Guard::Absent(key) => Compare::create_revision(key, CompareOp::Equal, 0),
        Guard::Unchanged(key, revision) => {
            Compare::mod_revision(key, CompareOp::Equal, revision.0.cast_signed())
        }
        Guard::Holds(key, value) => Compare::value(key, CompareOp::Equal, value.to_vec()),
        Guard::RangeAbsent(range) => {
            Compare::create_revision(range.from, CompareOp::Equal, 0).with_range(range.to)
        }
    };
    let op = |op: Op| match op {
        Op::Put { key, value, .. } => TxnOp::put(key, value.to_vec(), None),
        Op::Delete(key) => TxnOp::delete(key, None),
    };
    let (guards, ops) = (txn.guards.into_iter().map(guard), txn.ops.into_iter().map(op));
    etcd_client::Txn::new().when(guards.collect::<Vec<_>>()).and_then(ops.collect::<Vec<_>>())
}

/// A prefix at a pseudo-random position in the pool; the controller chooses it by a hash of the node's name.
fn prefix(number: u32) -> Prefix {
    let pool = pool().prefix;
    let spread = u128::from(number).wrapping_mul(0x9e_3779b1) % pool.count(HOST_LEN);
    pool.nth(HOST_LEN, spread).expect("it is in the pool")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn prefixes_of_nodes_are_distinct() {
        let distinct: HashSet<_> = (0..200_000).map(prefix).collect();
        assert_eq!(distinct.len(), 200_000);
    }
}
