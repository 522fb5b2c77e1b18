//! The state before a claim, and what may be granted by it.

use std::collections::BTreeMap;

use super::super::*;
use crate::index::State;

/// What is occupied, and what the node of a request holds.
#[derive(Debug)]
pub(super) struct Before {
    incarnation: Incarnation,
    pub(super) pools: BTreeMap<PoolName, Pool>,
    /// The node's claims by pool, each with its create revision.
    pub(super) held: BTreeMap<PoolName, (Prefix, Revision)>,
    taken: Vec<Prefix>,
    freed: Vec<(Prefix, NodeId)>,
    /// The reservations for the node.
    reserved: Vec<Prefix>,
}

impl Before {
    pub(super) fn of(state: &State, node: &NodeName) -> Self {
        let holdings = state.holdings();
        let claims = state.peers().get(node).into_iter().flat_map(|peer| &peer.claims);
        let reserved =
            holdings.reservations().iter().filter(|(_, view)| view.record.node.as_ref() == Some(node));
        Self {
            incarnation: state.meta().incarnation,
            pools: state.pools().iter().map(|(name, pool)| (name.clone(), pool.record.clone())).collect(),
            held: claims.map(|claim| (claim.pool.clone(), (claim.prefix, claim.claimed))).collect(),
            taken: state.claims().keys().chain(holdings.reservations().keys()).copied().collect(),
            freed: holdings.freed().iter().map(|(prefix, view)| (*prefix, view.record.node_id)).collect(),
            reserved: reserved.map(|(prefix, _)| *prefix).collect(),
        }
    }

    /// Whether the node holds `claim` in this store.
    pub(super) fn holds(&self, claim: &Claim) -> bool {
        let here = Some(&(claim.prefix, claim.epoch.revision));
        self.held.get(&claim.pool.name) == here && self.is_of_here(claim)
    }

    pub(super) fn is_of_here(&self, claim: &Claim) -> bool {
        claim.epoch.incarnation == self.incarnation
    }

    /// The claims that the node has already and that a request may be answered with: the one in its pool, or all of a node that
    /// knows of one.
    fn meant(&self, request: &ClaimRequest) -> Vec<Prefix> {
        let in_pool = request.pool.as_ref().and_then(|pool| self.held.get(pool));
        match in_pool {
            Some((prefix, _)) => vec![*prefix],
            None if request.beside => Vec::new(),
            None => self.held.values().map(|(prefix, _)| *prefix).collect(),
        }
    }

    pub(super) fn allows(&self, request: &ClaimRequest, granted: &Claim) {
        let (got, pool) = (granted.prefix, &granted.pool.name);
        if let Some(held) = request.held.as_ref().filter(|held| self.holds(held)) {
            return assert_eq!((got, granted.epoch), (held.prefix, held.epoch), "I2: it keeps what it holds");
        }
        let meant = self.meant(request);
        if !meant.is_empty() {
            return assert!(meant.contains(&got), "I2: it keeps what it holds, not {got}: {self:?}");
        }
        assert!(!self.held.contains_key(pool), "a second claim in {pool}: {self:?}");
        let before = request.held.as_ref().map(|held| held.prefix).filter(|prefix| self.is_free(*prefix));
        if let Some(before) = before {
            return assert_eq!(got, before, "it gets back what it held before the restore");
        }
        let covers = |prefix: &&Prefix| self.pools[pool].prefix.covers(**prefix);
        let reserved: Vec<_> = self.reserved.iter().filter(covers).collect();
        if !reserved.is_empty() {
            return assert!(reserved.contains(&&got), "it gets just what is reserved for it: {self:?}");
        }
        assert_eq!(Some(pool), request.pool.as_ref());
        assert!(self.is_free(got), "{got} was not free: {self:?}");
        assert_eq!(u32::from(got.len()), request.host_len.unwrap_or(64));
        let others = |(prefix, id): &(Prefix, NodeId)| prefix.overlaps(got) && *id != request.node_id;
        assert!(
            !self.freed.iter().any(others) || !self.any_free(pool, got.len(), true),
            "{got} is quarantined, and others are free: {self:?}"
        );
    }

    fn is_free(&self, prefix: Prefix) -> bool {
        self.taken.iter().all(|other| !other.overlaps(prefix))
    }

    /// Whether any prefix of this length is free; `fresh`: and not quarantined.
    pub(super) fn any_free(&self, pool: &PoolName, len: u8, fresh: bool) -> bool {
        let prefix = self.pools[pool].prefix;
        let mut all = (0..prefix.count(len)).filter_map(|n| prefix.nth(len, n));
        let quarantined = |it: Prefix| self.freed.iter().any(|(prefix, _)| prefix.overlaps(it));
        all.any(|it| self.is_free(it) && !(fresh && quarantined(it)))
    }
}
