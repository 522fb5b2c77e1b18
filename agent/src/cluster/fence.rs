//! The prefixes that this agent may claim from and route to, whatever a controller sends. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sextant_proto::{Claim, NodeName, Peer, Pool, PoolName, Prefix};

use crate::problems::Finding;

/// The prefixes of `accept-pools`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fence {
    /// Empty: all.
    accepted: Arc<[Prefix]>,
}

/// A claim of this node is outside the fence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {prefix} is outside accept-pools ({accepted})")]
pub struct Outside {
    what: &'static str,
    prefix: Prefix,
    accepted: String,
}

impl Fence {
    /// Around these prefixes; around all if there are none.
    pub fn around(accepted: &[Prefix]) -> Self {
        Self { accepted: accepted.into() }
    }

    /// Whether all of a prefix is inside.
    pub fn has(&self, prefix: Prefix) -> bool {
        self.accepted.is_empty() || self.accepted.iter().any(|accepted| accepted.covers(prefix))
    }

    /// A claim that a controller has granted to a node that holds `held`, as the node takes it: the pool of a prefix that it holds may
    /// have grown over the edge, and stays as it was.
    ///
    /// # Errors
    /// If it is outside.
    pub fn admit(&self, granted: Claim, held: &[Claim]) -> Result<Claim, Outside> {
        let before = held.iter().find(|it| it.prefix == granted.prefix);
        match self.check(&granted) {
            Err(outside) => {
                let pool = before.filter(|it| self.check(it).is_ok()).ok_or(outside)?.pool.prefix;
                Ok(Claim { pool: Pool { prefix: pool, ..granted.pool.clone() }, ..granted })
            }
            Ok(()) => Ok(granted),
        }
    }

    /// Checks a claim that a controller has granted, or had granted before this fence was set.
    ///
    /// # Errors
    /// If its prefix or its pool is outside: packets to all of the pool are refused or routed as the cluster's.
    pub fn check(&self, claim: &Claim) -> Result<(), Outside> {
        for (what, prefix) in [("host prefix", claim.prefix), ("pool", claim.pool.prefix)] {
            if !self.has(prefix) {
                return Err(Outside { what, prefix, accepted: self.to_string() });
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let accepted: Vec<_> = self.accepted.iter().map(ToString::to_string).collect();
        f.write_str(&accepted.join(", "))
    }
}

/// What a view leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pools: BTreeMap<PoolName, Prefix>,
    claims: BTreeMap<NodeName, Vec<Prefix>>,
}

impl LeftOut {
    /// Whether the pool stays.
    pub(super) fn keep_pool(&mut self, fence: &Fence, pool: &Pool) -> bool {
        let inside = fence.has(pool.prefix);
        if inside {
            self.pools.remove(&pool.name);
        } else {
            self.pools.insert(pool.name.clone(), pool.prefix);
        }
        inside
    }

    /// The node with those of its claims that stay.
    pub(super) fn keep_claims(&mut self, fence: &Fence, mut peer: Peer) -> Peer {
        let outside: Vec<_> = peer.claims.extract_if(.., |claim| !fence.has(claim.prefix)).collect();
        if outside.is_empty() {
            self.claims.remove(&peer.name);
        } else {
            self.claims.insert(peer.name.clone(), outside.iter().map(|claim| claim.prefix).collect());
        }
        peer
    }

    pub(super) fn pool_removed(&mut self, name: &PoolName) {
        self.pools.remove(name);
    }

    pub(super) fn peer_removed(&mut self, name: &NodeName) {
        self.claims.remove(name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.claims.is_empty()
    }

    /// Nothing else is in the store.
    pub(super) fn keep(&mut self, pools: &BTreeSet<&PoolName>, nodes: &BTreeSet<&NodeName>) {
        self.pools.retain(|name, _| pools.contains(name));
        self.claims.retain(|name, _| nodes.contains(name));
    }

    /// A problem for all that is left out.
    pub(super) fn finding(&self, fence: &Fence) -> Option<Finding> {
        let mut left_out: Vec<_> =
            self.pools.iter().map(|(name, prefix)| format!("pool {name} {prefix}")).collect();
        // The claims of such a pool are named with it.
        let named = |claim: &Prefix| self.pools.values().any(|pool| pool.covers(*claim));
        for (node, claims) in &self.claims {
            let others = claims.iter().filter(|claim| !named(claim));
            left_out.extend(others.map(|claim| format!("prefix {claim} of node {node}")));
        }
        let first = left_out.first()?;
        let others = match left_out.len() {
            1 => String::new(),
            many => format!(" and {} others", many - 1),
        };
        Some(Finding::new(
            "outside-accept-pools",
            format!("the controllers sent {first}{others}, outside accept-pools ({fence}): not routed"),
            "if the cluster has it by right, add it to accept-pools in agent.toml of each node and restart the agents; otherwise \
             see who made it: sextant events",
        ))
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Revision};

    use super::*;

    fn pool(name: &str, prefix: &str) -> Pool {
        Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 80).unwrap()
    }

    fn claim(prefix: &str, pool: Pool) -> Claim {
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
        Claim { prefix: prefix.parse().unwrap(), epoch, pool }
    }

    #[test]
    fn a_claim_is_inside_with_its_pool() {
        let fence = Fence::around(&["2001:db8::/32".parse().unwrap(), "fd00::/48".parse().unwrap()]);
        let check = |prefix, pool| fence.check(&claim(prefix, pool)).map_err(|outside| outside.to_string());
        assert_eq!(check("2001:db8:1::/64", pool("main", "2001:db8::/32")), Ok(()));
        assert_eq!(check("fd00:0:0:1::/64", pool("ula", "fd00::/56")), Ok(()));
        let wider = check("2001:db8:1::/64", pool("main", "2001:d00::/24")).unwrap_err();
        assert_eq!(wider, "pool 2001:d00::/24 is outside accept-pools (2001:db8::/32, fd00::/48)");
        let other = check("2606:4700::/64", pool("main", "2606:4700::/32")).unwrap_err();
        assert!(other.starts_with("host prefix 2606:4700::/64 is outside"), "{other}");
        // A pool has grown over the edge: who holds a prefix of it keeps it, and who holds none gets none.
        let held = claim("2001:db8:1::/64", pool("main", "2001:db8::/32"));
        let grown = Claim { pool: pool("main", "2001:d00::/24"), ..held.clone() };
        assert_eq!(fence.admit(grown.clone(), std::slice::from_ref(&held)), Ok(held.clone()));
        assert!(fence.admit(grown.clone(), &[]).is_err());
        assert!(fence.admit(grown.clone(), std::slice::from_ref(&grown)).is_err(), "it was never inside");
        let others = claim("2001:db8:2::/64", pool("main", "2001:d00::/24"));
        assert!(fence.admit(others, std::slice::from_ref(&held)).is_err());
        assert_eq!(Fence::default().check(&claim("2606:4700::/64", pool("main", "2606:4700::/32"))), Ok(()));
    }
}
