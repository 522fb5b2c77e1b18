//! Moves of nodes to other prefixes, in a random sequence.

use super::*;

/// The claim of a node in a pool moves to a prefix, or to any.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    node: usize,
    pool: AtPool,
    to: Option<(u128, u8)>,
}

pub(super) fn moving() -> impl Strategy<Value = Moving> {
    let to = proptest::option::of((0u128..128, 58u8..=66));
    (0..NODES, 0..POOLS.len(), to).prop_map(|(node, pool, to)| Moving { node, pool, to })
}

/// A host prefix of this length around or inside the `at`th /64 of the pool's area.
pub(super) fn prefix_in(pool: AtPool, at: u128, len: u8) -> Prefix {
    let area: Prefix = POOLS[pool].2.parse().unwrap();
    let inside = area.nth(64, at % area.count(64)).unwrap();
    inside.ancestor(len).or_else(|| inside.nth(len, 1)).unwrap()
}

impl Sequence {
    /// Moves a claim, and checks the result against the state before.
    pub(super) async fn reassign(&self, moving: &Moving) {
        let Moving { node, pool, to } = *moving;
        let (claims, key) = (&self.it.claims, (node_name(node), pool_name(pool)));
        let prefix = to.map(|(at, len)| prefix_in(pool, at, len));
        let order = Reassignment { node: key.0.clone(), pool: Some(key.1.clone()), prefix };
        let before = self.expected.borrow().get(&key).copied();
        let quarantined = claims.index.read(|state| state.holdings().freed().len());
        match claims.reassign(&order).await {
            Ok(moved) if moved.from == moved.to => {
                assert_eq!(before.map(|it| Some(it.prefix)), Some(prefix), "it holds that already");
            }
            Ok(Move { from, to, revision, .. }) => {
                let before = before.unwrap();
                assert!(before.prefix == from && !before.announced, "{before:?}, from {from}");
                assert!(prefix.is_none_or(|prefix| prefix == to), "{prefix:?}, not {to}");
                assert!(claims.index.reaches(revision, CATCH_UP).await);
                let freed = claims.index.read(|state| state.holdings().freed().len());
                assert!(freed >= quarantined, "{from} is quarantined");
                let expected = Expected { prefix: to, claimed: revision, announced: false };
                self.expected.borrow_mut().insert(key, expected);
            }
            Err(ReassignError::InService { .. }) => assert!(before.is_some_and(|it| it.announced)),
            Err(ReassignError::Unknown(_) | ReassignError::NoClaim { .. }) => assert_eq!(before, None),
            Err(ReassignError::Unavailable(_)) => assert!(before.is_some()),
            Err(error) => panic!("{error}"),
        }
    }
}
