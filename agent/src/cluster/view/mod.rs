//! What the agent knows of the cluster, and when it may believe that something is gone (DESIGN I6). Pure.

mod known;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use sextant_proto::{Control, Epoch, Incarnation, Mark, NodeName, Peer, Pool, PoolName, Prefix, Revision};

use super::fence::{Fence, LeftOut};
use crate::problems::Finding;
use known::{KnownPeer, KnownPool};

/// All pools and nodes of the cluster, as far as they were received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    incarnation: Option<Incarnation>,
    /// The newest revision that is in it.
    revision: Revision,
    /// The revision that the present stream's next delta must follow. Behind `revision` while a stale controller catches up.
    chain: Revision,
    recovering: bool,
    /// The last mark of the store's history.
    mark: Option<Mark>,
    control: Control,
    /// The present stream began with a snapshot from a controller that was current.
    current: bool,
    /// Nothing outside it is taken in.
    fence: Fence,
    left_out: LeftOut,
    pools: BTreeMap<PoolName, KnownPool>,
    peers: BTreeMap<NodeName, KnownPeer>,
}

/// A complete snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Of which store.
    pub incarnation: Incarnation,
    /// At which revision.
    pub revision: Revision,
    /// The controller read the store linearizably after the hello.
    pub linearizable: bool,
    /// The store's recovery window is open.
    pub recovering: bool,
    /// What holds for all agents.
    pub control: Control,
    /// The last mark of the store's history.
    pub mark: Option<Mark>,
    /// All pools.
    pub pools: Vec<Pool>,
    /// All nodes.
    pub peers: Vec<Peer>,
}

/// Changes after one revision, up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// What it follows.
    pub since: Revision,
    /// What it leads to.
    pub revision: Revision,
    /// The last mark of the store's history, if there is a new one.
    pub mark: Option<Mark>,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A pool is new or has changed.
    Pool(Pool),
    /// A pool is gone.
    PoolRemoved(PoolName),
    /// A node is new or has changed.
    Peer(Peer),
    /// A node is gone: an explicit delete.
    PeerRemoved(NodeName),
    /// The recovery window has opened or closed.
    Recovering(bool),
    /// A pause or a resume.
    Control(Control),
}

/// A delta that does not follow what is known: a snapshot is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a delta since revision {since} does not follow revision {chain}")]
pub struct Gap {
    since: Revision,
    chain: Revision,
}

impl View {
    /// Without anything yet, and never with a pool or a claim that is outside the fence.
    pub fn within(fence: Fence) -> Self {
        Self { fence, ..Self::default() }
    }

    /// The problem that controllers have sent what is outside the fence.
    pub(crate) fn left_out(&self) -> Option<Finding> {
        self.left_out.finding(&self.fence)
    }

    /// The store it is of, once known.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// The newest revision that is in it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the view is at least as new as the claim of this epoch. If it is, its record of the claim's node is decisive.
    pub fn reaches(&self, epoch: Epoch) -> bool {
        self.incarnation == Some(epoch.incarnation) && self.revision >= epoch.revision
    }

    /// The last received mark of the store's history. Controllers check by it that their store still has every change that this
    /// agent knows.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// The revision from which a stream may continue by deltas; `None` without a complete, current snapshot.
    pub fn resumes_at(&self) -> Option<(Incarnation, Revision)> {
        self.incarnation.filter(|_| self.current && self.chain == self.revision).map(|it| (it, self.revision))
    }

    /// Whether the view has every peer: a route to any other prefix is left over, and may be removed.
    pub fn is_complete(&self) -> bool {
        self.current && !self.recovering
    }

    /// What holds for all agents.
    pub fn control(&self) -> Control {
        self.control
    }

    /// All pools.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(|known| known.it.as_ref())
    }

    /// All nodes, this one among them.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().map(KnownPeer::peer)
    }

    /// One node.
    pub fn peer(&self, name: &NodeName) -> Option<&Peer> {
        self.peers.get(name).map(KnownPeer::peer)
    }

    /// Whether the delta ends a claim that the view has.
    pub fn ends_claims(&self, delta: &Delta) -> bool {
        let leaves_one = |peer: &Peer| {
            let mut known = self.peer(&peer.name).into_iter().flat_map(|known| &known.claims);
            known.any(|claim| peer.claim_of(claim.prefix).is_none())
        };
        delta.changes.iter().any(|change| match change {
            Change::PeerRemoved(name) => self.peers.contains_key(name),
            Change::Peer(peer) => leaves_one(peer),
            _ => false,
        })
    }

    /// The store has lost the history that the view is of, and is the same incarnation: nothing in it is confirmed any more, and
    /// the next snapshot counts as that of another store.
    pub fn disown(&mut self) {
        (self.incarnation, self.mark) = (None, None);
        self.current = false;
    }

    /// Takes a snapshot in.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) {
        if self.incarnation != Some(snapshot.incarnation) {
            self.enter(snapshot.incarnation);
        }
        let newer = snapshot.revision >= self.revision;
        let authoritative = newer && snapshot.linearizable;
        if authoritative {
            self.drop_absent(&snapshot);
        }
        for pool in snapshot.pools {
            self.take_pool(pool, newer);
        }
        for peer in snapshot.peers {
            self.take_peer(peer, newer);
        }
        self.current = authoritative;
        self.chain = snapshot.revision;
        self.revision = self.revision.max(snapshot.revision);
        if newer {
            self.set_recovering(snapshot.recovering);
            self.control = snapshot.control;
            self.mark = snapshot.mark.or(self.mark);
        }
        self.drop_superseded();
    }

    /// Takes a delta in. One that tells nothing new, from a controller that is catching up, changes nothing.
    ///
    /// # Errors
    /// [`Gap`] if it does not follow what came before.
    pub fn apply_delta(&mut self, delta: Delta) -> Result<(), Gap> {
        if delta.since != self.chain {
            return Err(Gap { since: delta.since, chain: self.chain });
        }
        self.chain = delta.revision;
        if delta.revision <= self.revision {
            return Ok(());
        }
        self.revision = delta.revision;
        self.mark = delta.mark.or(self.mark);
        for change in delta.changes {
            self.apply(change);
        }
        self.drop_superseded();
        Ok(())
    }

    /// Another store: revisions start anew, and nothing that was known is confirmed.
    fn enter(&mut self, incarnation: Incarnation) {
        self.incarnation = Some(incarnation);
        self.revision = Revision::ZERO;
        self.mark = None;
        self.pools.values_mut().for_each(|known| known.confirmed = false);
        self.peers.values_mut().for_each(KnownPeer::doubt);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Pool(pool) => self.take_pool(pool, true),
            Change::PoolRemoved(name) => {
                self.left_out.pool_removed(&name);
                self.pools.remove(&name);
            }
            Change::Peer(peer) => {
                if let Some(known) = self.peers.get_mut(&peer.name) {
                    known.end_registered(&peer.claims);
                }
                self.take_peer(peer, true);
            }
            Change::PeerRemoved(name) => self.end_peer(&name),
            Change::Recovering(recovering) => self.set_recovering(recovering),
            Change::Control(control) => self.control = control,
        }
    }

    /// The present store has ended all claims of a node. What only an earlier store had is kept (DESIGN I6).
    fn end_peer(&mut self, name: &NodeName) {
        self.left_out.peer_removed(name);
        let Some(known) = self.peers.get_mut(name) else { return };
        known.end_registered(&[]);
        if !known.keep_earlier() {
            self.peers.remove(name);
        }
    }

    /// Takes a pool of the present store. A record older than a confirmed one is ignored.
    fn take_pool(&mut self, pool: Pool, newer: bool) {
        if newer || self.pools.get(&pool.name).is_none_or(|known| !known.confirmed) {
            if !self.left_out.keep_pool(&self.fence, &pool) {
                self.pools.remove(&pool.name);
                return;
            }
            self.pools.insert(pool.name.clone(), KnownPool { it: Arc::new(pool), confirmed: true });
        }
    }

    /// Takes a node of the present store. A record older than a confirmed one is ignored.
    fn take_peer(&mut self, peer: Peer, newer: bool) {
        match self.peers.entry(peer.name.clone()) {
            Entry::Occupied(known) if !newer && known.get().is_confirmed() => {}
            Entry::Occupied(mut known) => known.get_mut().take(self.left_out.keep_claims(&self.fence, peer)),
            Entry::Vacant(new) => {
                new.insert(KnownPeer::new(self.left_out.keep_claims(&self.fence, peer)));
            }
        }
    }

    /// Drops everything that the present store has sent before and sends no longer.
    fn drop_absent(&mut self, snapshot: &Snapshot) {
        if self.pools.is_empty() && self.peers.is_empty() && self.left_out.is_empty() {
            // As at a start, where the snapshot may have ten thousand names.
            return;
        }
        let pools: BTreeSet<&PoolName> = snapshot.pools.iter().map(|pool| &pool.name).collect();
        let peers: BTreeSet<&NodeName> = snapshot.peers.iter().map(|peer| &peer.name).collect();
        self.left_out.keep(&pools, &peers);
        self.pools.retain(|name, known| !known.confirmed || pools.contains(name));
        self.peers.values_mut().for_each(KnownPeer::forget_registrations);
        self.peers.retain(|name, known| peers.contains(name) || known.keep_earlier());
    }

    /// Once the window is closed, everything that the present store has not sent is gone.
    fn set_recovering(&mut self, recovering: bool) {
        self.recovering = recovering;
        if !recovering && self.current {
            self.pools.retain(|_, known| known.confirmed);
            self.peers.retain(|_, known| known.close_window());
        }
    }

    /// A prefix that the present store gave to somebody is no longer that of somebody from before.
    fn drop_superseded(&mut self) {
        if self.peers.values().all(KnownPeer::is_confirmed) {
            return;
        }
        let confirmed: Vec<Prefix> = self.peers.values().flat_map(KnownPeer::confirmed_prefixes).collect();
        self.peers.retain(|_, known| known.drop_superseded(&confirmed));
    }
}

#[cfg(test)]
mod tests;
