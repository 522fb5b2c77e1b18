//! A node id has claims under one name (DESIGN I2). A host whose name has changed keeps them: its node is renamed.
//!
//! The caller has checked that no agent is connected under the former name: then two hosts have the same node id.

use sextant_proto::{NodeId, NodeName, Prefix};

use super::{
    CATCH_UP, ClaimError, ClaimRequest, Claims, NodeStatus, decode, granted_under,
    lifecycle::{self, of_node},
};
use crate::{
    audit::{Event, What},
    format,
    index::State,
    records::{ClaimRecord, NodeRecord, Record, ReservationRecord},
    registry::{Guard, KeyRange, Op, RegistryError, Txn},
    reservations::pool_of,
};

impl Claims {
    /// The name under which the node id of `name` holds its claims, if it is another one.
    pub fn former_name(&self, name: &NodeName, node_id: NodeId) -> Option<NodeName> {
        self.index.read(|state| state.other_name(name, node_id).cloned())
    }

    /// Renames the node of the requesting host, if it holds its claims under another name.
    ///
    /// # Errors
    /// [`ClaimError::Renamed`] if the new name belongs to another node id.
    pub(super) async fn rename(&self, request: &ClaimRequest) -> Result<(), ClaimError> {
        for _ in 0..lifecycle::ATTEMPTS {
            match self.former_name(&request.node, request.node_id) {
                None => return Ok(()),
                Some(former) => self.try_rename(request, &former).await?,
            }
        }
        Err(ClaimError::Contended)
    }

    /// One attempt. If the store has changed meanwhile, the index shows it afterwards.
    async fn try_rename(&self, request: &ClaimRequest, former: &NodeName) -> Result<(), ClaimError> {
        let more = [self.keys.node(&request.node), self.keys.session(former)].map(|key| KeyRange::key(&key));
        let status = self.node_status_with(former, &more).await?;
        let Some(node) = status.node.as_ref().filter(|node| node.record.node_id == request.node_id) else {
            self.index.reaches(status.read_at, CATCH_UP).await;
            return Ok(());
        };
        if let Some(other) = status.more[0].first() {
            let holder = decode::<NodeRecord>(other)?.record.node_id;
            if holder != request.node_id {
                return Err(granted_under(request, former, &node.record, holder));
            }
            self.index.reaches(status.read_at, CATCH_UP).await;
            return Ok(());
        }
        let txn = self.index.read(|state| self.renaming(state, former, &request.node, &status, &node.record));
        match self.commit_seen(txn).await? {
            Some(_) => {
                tracing::info!(node = %request.node, %former, "node renamed: its host has another name")
            }
            None => _ = self.index.reaches(status.read_at, CATCH_UP).await,
        }
        Ok(())
    }

    /// Moves all records of node `former` to `name`. Its claims keep their epochs, and peers their routes.
    fn renaming(
        &self,
        state: &State,
        former: &NodeName,
        name: &NodeName,
        status: &NodeStatus,
        node: &NodeRecord,
    ) -> Txn {
        let keys = &self.keys;
        let former_key = keys.node(former);
        let put = format::put(state, keys, name, node);
        let mut guards = vec![status.same_meta(keys), Guard::Absent(keys.node(name))];
        guards.extend(status.node.iter().map(|node| Guard::Unchanged(former_key.clone(), node.modified)));
        guards.extend(put.guards);
        let mut ops = vec![Op::Delete(former_key), Op::Delete(keys.doubt(former))];
        ops.extend(put.ops);
        for holding in status.holdings() {
            let key = keys.claim(holding.held.prefix);
            let claim = ClaimRecord { node: name.clone(), ..holding.claim.record.clone() };
            guards.push(Guard::Unchanged(key.clone(), holding.claim.modified));
            ops.push(Op::put(key, claim.encode()));
        }
        // An agent that connects under the former name meanwhile puts its session.
        let session = keys.session(former);
        guards.push(match status.more[1].first() {
            Some(entry) => Guard::Unchanged(session.clone(), entry.modified),
            None => Guard::Absent(session.clone()),
        });
        ops.push(Op::Delete(session));
        self.move_reservations(state, former, name, &mut guards, &mut ops);
        ops.push(self.note(renamed(former, name, node)));
        ops.extend(state.lineage().ops(keys, None));
        Txn { guards, ops }
    }

    /// Moves the reservations for node `former`, but not into a pool in which one is reserved for `name` already.
    fn move_reservations(
        &self,
        state: &State,
        former: &NodeName,
        name: &NodeName,
        guards: &mut Vec<Guard>,
        ops: &mut Vec<Op>,
    ) {
        let holdings = state.holdings();
        let pool = |prefix: &Prefix| pool_of(state.pools().values().map(|pool| &pool.record), *prefix);
        let taken: Vec<_> = holdings.reserved_for(name).iter().map(pool).collect();
        let moved = holdings.reserved_for(former).iter().filter(|prefix| !taken.contains(&pool(prefix)));
        let before = ops.len();
        for prefix in moved {
            let Some(reservation) = holdings.reservations().get(prefix) else { continue };
            let record = ReservationRecord { node: Some(name.clone()), ..reservation.record.clone() };
            ops.push(Op::put(self.keys.reservation(*prefix), record.encode()));
        }
        if ops.len() > before {
            let set = self.keys.reservation_set();
            ops.push(Op::put(set.clone(), ""));
            guards.push(match holdings.reservation_set() {
                Some(revision) => Guard::Unchanged(set, revision),
                None => Guard::Absent(set),
            });
        }
    }
}

fn renamed(former: &NodeName, name: &NodeName, node: &NodeRecord) -> Event {
    of_node(What::Renamed, name, node).detail(format!("formerly {former}"))
}

/// The error for a node that acts under a name that it no longer has. Its claims have not ended: they have its new name.
pub(super) fn has_new_name(name: &NodeName, now: &NodeName) -> RegistryError {
    RegistryError::Unavailable(format!(
        "node {name} is named {now} now, with the same node id and claims: claim again"
    ))
}
