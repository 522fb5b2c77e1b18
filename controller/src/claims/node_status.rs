//! The state of a node in the store: all inputs of a decision about it, in one read at one revision.

use bytes::Bytes;
use sextant_proto::{Epoch, NodeId, NodeName, Pool, PoolName, Prefix, Revision};

use super::{CATCH_UP, Claims, Copied, Holder, decode};
use crate::{
    doubts::{Doubted, Doubter},
    index::View,
    lineage::{History, Known},
    records::{ClaimRecord, HeldClaim, MarkRecord, Meta, NodeRecord, Record},
    registry::{Entry, Guard, KeyRange, RegistryError},
};

/// The most reads if the node's claims change meanwhile.
const ATTEMPTS: u32 = 8;

/// A node, its claims and their pools, in the store that the controller serves.
#[derive(Debug)]
pub struct NodeStatus {
    /// The store's revision at the read.
    pub(super) read_at: Revision,
    pub(super) meta: Meta,
    meta_value: Bytes,
    /// The node's record.
    pub node: Option<View<NodeRecord>>,
    /// What backs each claim of the node's record, in the same order.
    backing: Vec<Backing>,
    /// The additional ranges, at the same revision.
    pub(super) more: Vec<Vec<Entry>>,
}

/// The claim of a prefix, if it is the node's own, and its pool.
#[derive(Debug)]
struct Backing {
    claim: Option<View<ClaimRecord>>,
    pool: Option<View<Pool>>,
}

/// A claim that a node holds, with its record and its pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding<'a> {
    pub(super) held: &'a HeldClaim,
    pub(super) claim: &'a View<ClaimRecord>,
    pub(super) pool: Option<&'a View<Pool>>,
}

/// Why a node does not hold the claim that it reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its name belongs to another node now.
    Name(NodeId, Vec<Prefix>),
    /// The claim has ended, or was claimed again.
    Claim(String),
}

/// The verdict on a node that does not hold the claim that it reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// The claim ended in this store's own history: the node is fenced.
    Fenced,
    /// The store does not have that history; a second node may confirm it.
    Waiting,
    /// The store does not have that history, and no other node reports it.
    Alone,
    /// The node id has its claims under this other name.
    Renamed(NodeName),
    /// The claim is that of another node: the host has a copy of that node's state.
    Copied(Box<Copied>),
}

impl NodeStatus {
    /// Guards that hold while the store is the one that was read.
    pub(super) fn same_meta(&self, keys: &crate::keys::Keys) -> Guard {
        Guard::Holds(keys.meta(), self.meta_value.clone())
    }

    /// The node's claims.
    pub(super) fn holdings(&self) -> impl Iterator<Item = Holding<'_>> {
        let held = self.node.iter().flat_map(|node| &node.record.claims);
        held.zip(&self.backing).filter_map(|(held, backing)| {
            Some(Holding { held, claim: backing.claim.as_ref()?, pool: backing.pool.as_ref() })
        })
    }

    /// The node's claim in a pool.
    pub(super) fn holding_in(&self, pool: &PoolName) -> Option<Holding<'_>> {
        self.holdings().find(|holding| holding.held.pool == *pool)
    }

    /// Since when the node holds a claim.
    pub(super) fn epoch_of(&self, holding: Holding<'_>) -> Epoch {
        Epoch { incarnation: self.meta.incarnation, revision: holding.claim.created }
    }

    /// The claim that the node of this id holds since `epoch`, which is of this store.
    pub(super) fn holds(&self, node_id: NodeId, epoch: Epoch) -> Result<Holding<'_>, Lost> {
        let Some(node) = &self.node else {
            return Err(Lost::Claim(format!("its claim of revision {} has ended", epoch.revision)));
        };
        if node.record.node_id != node_id {
            return Err(Lost::Name(node.record.node_id, node.record.prefixes()));
        }
        let mut holdings = self.holdings();
        holdings.find(|holding| self.epoch_of(*holding) == epoch).ok_or_else(|| self.why_lost(epoch))
    }

    fn why_lost(&self, epoch: Epoch) -> Lost {
        let claims = self.node.as_ref().map_or(&[][..], |node| &node.record.claims[..]);
        Lost::Claim(match (claims, self.holdings().next()) {
            ([only], Some(holding)) if holding.claim.created > epoch.revision => {
                format!("{} was claimed again at revision {}", only.prefix, holding.claim.created)
            }
            ([only], None) => format!("the claim of {} has ended", only.prefix),
            _ => format!("its claim of revision {} has ended", epoch.revision),
        })
    }
}

impl Claims {
    /// The state of node `name` in the store.
    ///
    /// # Errors
    /// If the store does not answer, or is no longer the one that this controller serves.
    pub async fn node_status(&self, name: &NodeName) -> Result<NodeStatus, RegistryError> {
        self.node_status_with(name, &[]).await
    }

    /// As [`Self::node_status`], with the keys of `more` at the same revision.
    pub(super) async fn node_status_with(
        &self,
        name: &NodeName,
        more: &[KeyRange],
    ) -> Result<NodeStatus, RegistryError> {
        let known = self.index.read(|state| state.nodes().get(name).map(|node| places(&node.record)));
        let mut guess = known.unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let mut ranges = vec![KeyRange::key(&self.keys.meta()), KeyRange::key(&self.keys.node(name))];
            ranges.extend(guess.iter().flat_map(|(prefix, pool)| {
                [self.keys.claim(*prefix), self.keys.pool(pool)].map(|key| KeyRange::key(&key))
            }));
            let fixed = ranges.len();
            ranges.extend_from_slice(more);
            let seen = self.index.seen();
            let mut reading = self.registry.read(&ranges).await?;
            self.lineage.not_back(seen, reading.revision)?;
            let (meta, meta_value) = self.served(reading.entry(0))?;
            let node = reading.entry(1).map(decode::<NodeRecord>).transpose()?;
            if let Some(node) = &node
                && places(&node.record) != guess
            {
                guess = places(&node.record);
                continue;
            }
            let backing = |at: usize| {
                let claim = reading.entry(at).map(decode::<ClaimRecord>).transpose()?;
                let pool = reading.entry(at + 1).map(decode::<Pool>).transpose()?;
                Ok(Backing { claim: claim.filter(|claim| claim.record.node == *name), pool })
            };
            let known = if node.is_some() { fixed } else { 2 };
            let backing = (2..known).step_by(2).map(backing).collect::<Result<_, RegistryError>>()?;
            let (read_at, more) = (reading.revision, reading.ranges.split_off(fixed));
            return Ok(NodeStatus { read_at, meta, meta_value, node, backing, more });
        }
        Err(RegistryError::Unavailable(format!("node {name} keeps changing; try again")))
    }

    /// The store's own record, if this controller serves that store.
    fn served(&self, entry: Option<&Entry>) -> Result<(Meta, Bytes), RegistryError> {
        let other = |what: &str| {
            self.index.reconsider();
            let why = "requests are refused until the controller is restarted";
            RegistryError::Unavailable(format!(
                "{} is {what}: the store was wiped or replaced; {why}",
                self.keys.meta()
            ))
        };
        let entry = entry.ok_or_else(|| other("gone"))?;
        let meta = decode::<Meta>(entry)?.record;
        let here = self.index.read(|state| state.meta().incarnation);
        if meta.incarnation != here {
            return Err(other("another one"));
        }
        Ok((meta, entry.value.clone()))
    }

    /// Whether a node has lost what it held since its epoch, a claim of `prefix` where that is known, by what happened in this
    /// store: decided anew, by one read that has the store's marks in it.
    pub(super) async fn judge(
        &self,
        holder: &Holder,
        prefix: Option<Prefix>,
    ) -> Result<(Judged, NodeStatus), RegistryError> {
        let &Holder { node: ref name, node_id, epoch } = holder;
        let status = self.node_status_with(name, &[self.keys.marks()]).await?;
        self.index.reaches(status.read_at, CATCH_UP).await;
        if let Some(judged) = self.judged_by_the_store(holder, prefix, &status) {
            return Ok((judged, status));
        }
        let doubt =
            format!("the claim that it was granted at revision {} is not in the store", epoch.revision);
        let doubter = Doubter { node: name, node_id: Some(node_id), claim: Some(epoch) };
        let judged = match self.lineage.doubted(doubter, doubt).await {
            Doubted::Waiting => Judged::Waiting,
            Doubted::Alone => Judged::Alone,
        };
        Ok((judged, status))
    }

    /// The verdict by what the store has, with its marks in `status`; `None` if the store does not have that history.
    pub(super) fn judged_by_the_store(
        &self,
        holder: &Holder,
        prefix: Option<Prefix>,
        status: &NodeStatus,
    ) -> Option<Judged> {
        let &Holder { node: ref name, node_id, epoch } = holder;
        if let Some(now) = self.former_name(name, node_id) {
            return Some(Judged::Renamed(now));
        }
        if let Some(copied) = self.copied(holder, prefix) {
            return Some(Judged::Copied(Box::new(copied)));
        }
        let mut history = History::default();
        for entry in status.more.iter().flatten() {
            if let (Some(crate::keys::Key::Mark(id)), Ok(mark)) =
                (self.keys.parse(&entry.key), MarkRecord::decode(&entry.value))
            {
                history.put(id, entry.modified, &mark);
            }
        }
        (history.knows_grant(node_id, epoch.revision) != Known::Missing).then_some(Judged::Fenced)
    }
}

impl Claims {
    /// The claim that `holder` shows, if the store has the same one, of the same epoch, as another node's. The store's history is
    /// intact then: it grants a claim to one node, and the other host has a copy of that.
    fn copied(&self, holder: &Holder, prefix: Option<Prefix>) -> Option<Copied> {
        self.index.read(|state| {
            let is_it = |claim: &View<ClaimRecord>| {
                claim.created == holder.epoch.revision && state.meta().incarnation == holder.epoch.incarnation
            };
            let (prefix, claim) = match prefix {
                Some(prefix) => state.claims().get_key_value(&prefix).filter(|(_, claim)| is_it(claim))?,
                // A restore makes several claims at one revision.
                None => {
                    let mut of_it = state.claims().iter().filter(|(_, claim)| is_it(claim));
                    of_it.next().filter(|_| of_it.next().is_none())?
                }
            };
            let ClaimRecord { node, node_id, .. } = &claim.record;
            (*node_id != holder.node_id).then(|| Copied {
                node: holder.node.clone(),
                asking: holder.node_id,
                holder: node.clone(),
                holder_id: *node_id,
                prefix: *prefix,
            })
        })
    }
}

/// The prefix and the pool of each claim.
fn places(node: &NodeRecord) -> Vec<(Prefix, PoolName)> {
    node.claims.iter().map(|claim| (claim.prefix, claim.pool.clone())).collect()
}

/// The error for a node that has to wait.
pub(super) fn unknown_history() -> RegistryError {
    RegistryError::Unavailable(
        "the store does not have the claim that this node was granted: it may have been taken back to an earlier \
         snapshot; waiting for a second node that says so. Trying again"
            .into(),
    )
}
