//! Which claims the agent asks a controller for. Pure.

use sextant_proto::{Claim, PoolName};

/// A claim to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The pool; `None`: the controller chooses one.
    pub(super) pool: Option<PoolName>,
    /// The length of the host prefix; `None`: the pool's.
    pub(super) host_len: Option<u32>,
    /// The claim that this node holds there.
    pub(super) held: Option<Claim>,
    /// It is one of several; otherwise the node has one claim, in whichever pool.
    pub(super) beside: bool,
}

impl Wish {
    /// Whether the wish is for this claim: one of its pool, or the held prefix. An operator may have added the pool of a lost store
    /// again under another name.
    pub(super) fn is_met_by(&self, claim: &Claim) -> bool {
        let is_held = self.held.as_ref().is_some_and(|held| held.prefix == claim.prefix);
        is_held || self.pool.as_ref() == Some(&claim.pool.name)
    }
}

/// The claims to ask for: those that are held first, even in pools that the settings do not name, since containers may have
/// addresses of them; then those in the other named pools.
pub(super) fn wishes(pools: &[PoolName], host_len: Option<u32>, held: &[Claim]) -> Vec<Wish> {
    if pools.len() < 2 && held.len() < 2 {
        let (pool, held) = (pools.first().cloned(), held.first().cloned());
        return vec![Wish { pool, host_len, held, beside: false }];
    }
    let is_held = |pool: &PoolName| held.iter().any(|claim| claim.pool.name == *pool);
    let kept = held.iter().map(|claim| Wish {
        pool: Some(claim.pool.name.clone()),
        host_len: None,
        held: Some(claim.clone()),
        beside: true,
    });
    let new = pools.iter().enumerate().filter(|(_, pool)| !is_held(pool)).map(|(nth, pool)| Wish {
        pool: Some(pool.clone()),
        host_len: host_len.filter(|_| nth == 0),
        held: None,
        beside: true,
    });
    kept.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;

    fn name(name: &str) -> PoolName {
        name.parse().unwrap()
    }

    fn claim(pool: &str) -> Claim {
        let pool = Pool::new(name(pool), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap();
        let epoch =
            Epoch { incarnation: Incarnation::try_from(&[1; 16][..]).unwrap(), revision: Revision(4) };
        Claim { prefix: "2001:db8:1::/64".parse().unwrap(), epoch, pool }
    }

    fn text(pools: &[&str], held: &[&str]) -> Vec<String> {
        let pools: Vec<_> = pools.iter().map(|pool| name(pool)).collect();
        let held: Vec<_> = held.iter().map(|pool| claim(pool)).collect();
        let text = |wish: Wish| {
            let pool = wish.pool.map_or("any".to_owned(), |pool| pool.to_string());
            let len = wish.host_len.map(|len| format!(" /{len}")).unwrap_or_default();
            let held = wish.held.map(|held| format!(", held in {}", held.pool.name)).unwrap_or_default();
            format!("{pool}{len}{held}{}", if wish.beside { ", beside" } else { "" })
        };
        wishes(&pools, Some(60), &held).into_iter().map(text).collect()
    }

    #[test]
    fn one_claim_in_whichever_pool() {
        assert_eq!(text(&[], &[]), ["any /60"]);
        assert_eq!(text(&["main"], &[]), ["main /60"]);
        assert_eq!(text(&["ula"], &["main"]), ["ula /60, held in main"]);
    }

    #[test]
    fn held_claims_come_first_and_none_is_given_up() {
        assert_eq!(text(&["main", "ula"], &[]), ["main /60, beside", "ula, beside"]);
        assert_eq!(text(&["main", "ula"], &["ula"]), ["ula, held in ula, beside", "main /60, beside"]);
        assert_eq!(
            text(&["ula", "main"], &["other"]),
            ["other, held in other, beside", "ula /60, beside", "main, beside"]
        );
        assert_eq!(
            text(&["main"], &["main", "ula"]),
            ["main, held in main, beside", "ula, held in ula, beside"]
        );
    }
}
