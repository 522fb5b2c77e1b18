//! Plans a restore: the entries to put into a store with live content, or the conflicts. Pure.
//!
//! Live records are unchanged. Claims, nodes, pools and reservations of the backup that exist already are skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sextant_backup_file::{Backup, FileError, Kept};
use sextant_proto::{Epoch, NodeName, Pool, Prefix, Revision};

use super::lasts;
use crate::{
    keys::{Key, Keys},
    prefixes::{overlapping, overlaps},
    records::{ClaimRecord, ControlRecord, HeldClaim, NodeRecord, Record, RecordError, ReservationRecord},
    registry::{Entry, Guard, Listing, Op},
};

/// A conflict between the backup and a live record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict(String);

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The entries to put.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// New pools.
    pub(super) pools: Vec<Op>,
    /// Live pools, unchanged: putting them refuses claims that are based on their previous revision.
    pub(super) touched: Vec<Op>,
    /// All others, each with a guard that it does not exist yet, or is as it was read.
    pub(super) rest: Vec<(Guard, Op)>,
}

impl Plan {
    /// Whether a node's record that is put has the form for several claims.
    pub(super) fn has_several_claims(&self, keys: &Keys) -> bool {
        let nodes = self.rest.iter().filter_map(|(_, op)| put_as::<NodeRecord>(keys, op, is_node));
        nodes.into_iter().any(|node| !node.is_of_first_form())
    }

    /// The rest, in transactions of at most `most` operations. No two claims of a node are in the same one: they would have
    /// the same create revision, by which the node's claims are distinguished.
    pub(super) fn transactions(&self, keys: &Keys, most: usize) -> Vec<&[(Guard, Op)]> {
        let (mut all, mut from, mut claimed) = (Vec::new(), 0, BTreeSet::new());
        for (at, (_, op)) in self.rest.iter().enumerate() {
            let node = put_as::<ClaimRecord>(keys, op, is_claim).map(|claim| claim.node);
            if at - from == most || node.as_ref().is_some_and(|node| claimed.contains(node)) {
                all.push(&self.rest[from..at]);
                (from, claimed) = (at, BTreeSet::new());
            }
            claimed.extend(node);
        }
        all.extend(Some(&self.rest[from..]).filter(|last| !last.is_empty()));
        all
    }
}

fn is_node(key: &Key) -> bool {
    matches!(key, Key::Node(_))
}

fn is_claim(key: &Key) -> bool {
    matches!(key, Key::Claim(_))
}

/// The record that an operation puts, if its key is of that kind.
fn put_as<R: Record>(keys: &Keys, op: &Op, kind: fn(&Key) -> bool) -> Option<R> {
    let Op::Put { key, value, .. } = op else { return None };
    keys.parse(key).filter(kind).and_then(|_| R::decode(value).ok())
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// The backup itself is invalid.
    File(FileError),
    /// It conflicts with live records.
    Conflicts(Vec<Conflict>),
}

/// The records of a set of entries.
#[derive(Default)]
struct Content {
    pools: BTreeMap<String, Pool>,
    claims: BTreeMap<Prefix, ClaimRecord>,
    reservations: BTreeMap<Prefix, ReservationRecord>,
    nodes: BTreeMap<NodeName, NodeRecord>,
}

impl Content {
    fn read<'a>(
        keys: &Keys,
        entries: impl Iterator<Item = (String, &'a bytes::Bytes)>,
    ) -> Result<Self, (String, RecordError)> {
        let mut content = Self::default();
        for (key, value) in entries {
            content.take(keys, &key, value).map_err(|error| (key, error))?;
        }
        Ok(content)
    }

    fn take(&mut self, keys: &Keys, key: &str, value: &bytes::Bytes) -> Result<(), RecordError> {
        match keys.parse(key) {
            Some(Key::Pool(name)) => {
                self.pools.insert(name.to_string(), Pool::decode(value)?);
            }
            Some(Key::Claim(prefix)) => {
                self.claims.insert(prefix, ClaimRecord::decode(value)?);
            }
            Some(Key::Reservation(prefix)) => {
                self.reservations.insert(prefix, ReservationRecord::decode(value)?);
            }
            Some(Key::Node(name)) => {
                self.nodes.insert(name, NodeRecord::decode(value)?);
            }
            Some(Key::Control) => {
                ControlRecord::decode(value)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The plan from the live content to the union of live content and backup.
pub(super) fn plan(backup: &Backup, live: &Listing, keys: &Keys) -> Result<Plan, NoPlan> {
    let lasting = |key: &str| keys.relative(key).is_some_and(lasts);
    let there = live.entries.iter().filter(|entry| lasting(&entry.key));
    let content = Content::read(keys, there.map(|entry| (entry.key.clone(), &entry.value)));
    let content =
        content.map_err(|(key, error)| NoPlan::Conflicts(vec![Conflict(format!("{key} here: {error}"))]))?;
    let kept = || backup.entries.iter().filter(|kept| lasts(&kept.key));
    let new = Content::read(keys, kept().map(|kept| (keys.absolute(&kept.key), &kept.value)));
    let new =
        new.map_err(|(key, error)| NoPlan::File(FileError::Content(format!("{key} in it: {error}"))))?;
    if let Some((one, other)) = overlaps(&new.claims) {
        return Err(NoPlan::File(FileError::Content(format!("claims {one} and {other} in it overlap"))));
    }
    let conflicts = conflicts(&new, &content);
    if !conflicts.is_empty() {
        return Err(NoPlan::Conflicts(conflicts));
    }
    let live: BTreeMap<&str, &Entry> = live.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let mut plan = Plan::default();
    for (key, entry) in &live {
        if matches!(keys.parse(key), Some(Key::Pool(_))) {
            plan.touched.push(Op::put(*key, entry.value.clone()));
        }
    }
    for (name, node) in &new.nodes {
        let key = keys.node(name);
        let merged = content.nodes.get(name).and_then(|live| merged(live, node));
        if let (Some(merged), Some(entry)) = (merged, live.get(key.as_str())) {
            plan.rest.push((Guard::Unchanged(key.clone(), entry.modified), Op::put(key, merged.encode())));
        }
    }
    for kept in kept().filter(|kept| !live.contains_key(keys.absolute(&kept.key).as_str())) {
        put(&mut plan, backup, keys, kept);
    }
    Ok(plan)
}

fn put(plan: &mut Plan, backup: &Backup, keys: &Keys, kept: &Kept) {
    let key = keys.absolute(&kept.key);
    let value = match keys.parse(&key) {
        Some(Key::Pool(_)) => return plan.pools.push(Op::put(key, kept.value.clone())),
        // Put, it would be a resume, which lets agents do what they hold back.
        Some(Key::Control) if !ControlRecord::decode(&kept.value).is_ok_and(|control| control.paused) => {
            return;
        }
        // Its revisions are those of another store.
        Some(Key::Elapsed) => return,
        Some(Key::Claim(_)) => dated(backup, kept),
        _ => kept.value.clone(),
    };
    plan.rest.push((Guard::Absent(key.clone()), Op::put(key, value)));
}

/// A claim, with its epoch in the store of the backup.
fn dated(backup: &Backup, kept: &Kept) -> bytes::Bytes {
    let prior = Some(Epoch { incarnation: backup.incarnation, revision: kept.created });
    match ClaimRecord::decode(&kept.value) {
        Ok(claim) => ClaimRecord { prior, ..claim }.encode(),
        Err(_) => kept.value.clone(),
    }
}

fn conflicts(new: &Content, live: &Content) -> Vec<Conflict> {
    let mut found = Vec::new();
    for pool in new.pools.values() {
        found.extend(live.pools.values().filter_map(|other| pools_conflict(pool, other)));
    }
    for (name, node) in &new.nodes {
        found.extend(live.nodes.get(name).and_then(|other| nodes_conflict(name, node, other)));
    }
    for (prefix, claim) in &new.claims {
        for (other, holder) in overlapping(&live.claims, *prefix) {
            if (prefix, &claim.node, claim.node_id) != (other, &holder.node, holder.node_id) {
                found.push(Conflict(format!(
                    "{prefix} of node {} overlaps the live claim of {other} by node {}",
                    claim.node, holder.node
                )));
            }
        }
        if !live.claims.contains_key(prefix) {
            let kept_out = overlapping(&live.reservations, *prefix).map(|(other, _)| other);
            let kept_out = kept_out.filter(|other| !new.reservations.contains_key(other));
            found.extend(kept_out.map(|other| {
                Conflict(format!("{prefix} of node {} overlaps the reservation {other} here", claim.node))
            }));
        }
    }
    for (prefix, record) in
        new.reservations.iter().filter(|(prefix, _)| !live.reservations.contains_key(*prefix))
    {
        found.extend(second_reservation(*prefix, record, new, live));
        let held = overlapping(&live.claims, *prefix).filter(|(other, _)| !new.claims.contains_key(other));
        found.extend(held.map(|(other, holder)| {
            Conflict(format!(
                "reservation {prefix} overlaps the live claim of {other} by node {}",
                holder.node
            ))
        }));
    }
    found
}

/// A node has one reservation in a pool: it holds one claim there.
fn second_reservation(
    prefix: Prefix,
    record: &ReservationRecord,
    new: &Content,
    live: &Content,
) -> Option<Conflict> {
    let node = record.node.as_ref()?;
    let pool = new.pools.values().chain(live.pools.values()).find(|pool| pool.prefix.covers(prefix))?;
    let mut others = live.reservations.iter().filter(|(other, _)| !new.reservations.contains_key(*other));
    let (here, _) =
        others.find(|(other, of)| of.node.as_ref() == Some(node) && pool.prefix.covers(**other))?;
    Some(Conflict(format!(
        "reservation {prefix} is for node {node}, which has the reservation {here} of pool {} here",
        pool.name
    )))
}

fn pools_conflict(pool: &Pool, other: &Pool) -> Option<Conflict> {
    let at_odds = if pool.name == other.name { pool != other } else { pool.prefix.overlaps(other.prefix) };
    at_odds.then(|| {
        Conflict(format!(
            "pool {} {} (hosts /{}) is at odds with pool {} {} (hosts /{}) here",
            pool.name, pool.prefix, pool.host_len, other.name, other.prefix, other.host_len
        ))
    })
}

fn nodes_conflict(name: &NodeName, node: &NodeRecord, other: &NodeRecord) -> Option<Conflict> {
    if node.node_id != other.node_id {
        return Some(Conflict(format!(
            "node {name} has id {} in it, and id {} here",
            node.node_id, other.node_id
        )));
    }
    let moved = node.claims.iter().find_map(|claim| {
        let here = other.claim_in(&claim.pool).filter(|here| here.prefix != claim.prefix)?;
        Some((claim.prefix, here.prefix))
    });
    moved.map(|(prefix, here)| Conflict(format!("node {name} holds {prefix} in it, and {here} here")))
}

/// A live node, with the claims that it has in the backup in other pools. Its host is not set up for those.
fn merged(live: &NodeRecord, backup: &NodeRecord) -> Option<NodeRecord> {
    let missing = backup.claims.iter().filter(|claim| live.claim_in(&claim.pool).is_none());
    let missing = missing.map(|claim| HeldClaim { announced: false, ..claim.clone() });
    let merged = missing.fold(live.clone(), |node, claim| node.with_claim(claim));
    (merged != *live).then_some(merged)
}

/// Two claims of the store that overlap, if any do.
pub(super) fn overlapping_claims(live: &Listing, keys: &Keys) -> Option<(Prefix, Prefix)> {
    let claims = live.entries.iter().filter_map(|entry| match keys.parse(&entry.key) {
        Some(Key::Claim(prefix)) => Some((prefix, ())),
        _ => None,
    });
    overlaps(&claims.collect())
}

/// Whether a node's record has the form for several claims.
pub(super) fn has_several_claims(live: &Listing, keys: &Keys) -> bool {
    let nodes = live.entries.iter().filter(|entry| keys.parse(&entry.key).is_some_and(|key| is_node(&key)));
    nodes.filter_map(|entry| NodeRecord::decode(&entry.value).ok()).any(|node| !node.is_of_first_form())
}

/// What takes back all that a restore may have put since `revision`: deletes the keys, and the claims of nodes that were there.
pub(super) fn take_back(live: &Listing, keys: &Keys, revision: Revision) -> Vec<Op> {
    let lasting = |key: &str| keys.relative(key).is_some_and(lasts);
    let is_new = |entry: &&Entry| entry.created >= revision && entry.lease.is_none() && lasting(&entry.key);
    let (new, old): (Vec<_>, Vec<_>) = live.entries.iter().partition(is_new);
    let there: BTreeSet<&str> = old.iter().map(|entry| entry.key.as_str()).collect();
    let unmerged = old.iter().filter_map(|entry| {
        keys.parse(&entry.key).filter(is_node)?;
        let node = NodeRecord::decode(&entry.value).ok()?;
        let is_gone = |prefix: &Prefix| !there.contains(keys.claim(*prefix).as_str());
        let gone: Vec<_> = node.prefixes().into_iter().filter(is_gone).collect();
        let left = node.without(&gone).filter(|_| !gone.is_empty())?;
        Some(Op::put(&entry.key, left.encode()))
    });
    let unmerged: Vec<_> = unmerged.collect();
    new.iter().map(|entry| Op::Delete(entry.key.clone())).chain(unmerged).collect()
}
