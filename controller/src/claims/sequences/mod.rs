//! Random sequences of all operations on claims, on a real store: nodes with claims in up to three pools.

mod before;
mod moves;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use proptest::prelude::*;
use sextant_backup_file::Backup;
use sextant_proto::{NodeState, PoolName};

use super::{tests::*, *};
use crate::{
    backup,
    index::{Kind, State},
    records::{ReservationRecord, SessionRecord},
    reservations::Reservations,
    store,
};
use before::Before;
use moves::{Moving, moving, prefix_in};

/// Name, first prefix, and where reservations are tried, as the first pool grows.
const POOLS: [(&str, &str, &str); 3] = [
    ("main", "2001:db8:1::/60", "2001:db8:1::/57"),
    ("ula", "fd00:1::/61", "fd00:1::/61"),
    ("spare", "fd00:2::/62", "fd00:2::/61"),
];
const NODES: usize = 6;

/// Which of [`POOLS`].
type AtPool = usize;

#[derive(Debug, Clone)]
struct Asking {
    node: usize,
    pool: AtPool,
    host_len: Option<u32>,
    /// With the claim that it was granted last, if there is one.
    held: bool,
    beside: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Claim(Asking),
    /// Its agent connects or disconnects.
    Session(usize, bool),
    /// It is set up for its claims in these pools.
    Announce(usize, Vec<AtPool>),
    /// `sextant node forget`, of a pool or of all: refused while its agent is connected, unless forced.
    Forget(usize, Option<AtPool>, bool),
    /// Its claims are due to end by hold-down.
    HoldDown(usize),
    /// `sextant node reassign`, of a claim that is announced or not.
    Reassign(Moving),
    Reserve(AtPool, u128, u8, Option<usize>),
    Unreserve(usize),
    Drain(AtPool, bool),
    Grow(u8),
    QuarantineOver,
    Backup,
    /// Of the last backup; refused if it conflicts.
    Restore,
}

fn asking() -> impl Strategy<Value = Asking> {
    let len = prop_oneof![4 => Just(None), 1 => (57u32..=66).prop_map(Some)];
    let known = (any::<bool>(), prop::bool::weighted(0.9));
    (0..NODES, 0..POOLS.len(), len, known).prop_map(|(node, pool, host_len, (held, beside))| Asking {
        node,
        pool,
        host_len,
        held,
        beside,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let pool = || 0..POOLS.len();
    prop_oneof![
        8 => asking().prop_map(Step::Claim),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, connects)| Step::Session(node, connects)),
        2 => (0..NODES, proptest::collection::vec(pool(), 0..4))
            .prop_map(|(node, pools)| Step::Announce(node, pools)),
        3 => (0..NODES, proptest::option::weighted(0.7, pool()), any::<bool>())
            .prop_map(|(node, pool, force)| Step::Forget(node, pool, force)),
        1 => (0..NODES).prop_map(Step::HoldDown),
        3 => moving().prop_map(Step::Reassign),
        2 => (pool(), 0u128..128, 58u8..=66, proptest::option::of(0..NODES))
            .prop_map(|(pool, at, len, node)| Step::Reserve(pool, at, len, node)),
        1 => (0usize..8).prop_map(Step::Unreserve),
        1 => (pool(), any::<bool>()).prop_map(|(pool, draining)| Step::Drain(pool, draining)),
        1 => (56u8..=60).prop_map(Step::Grow),
        1 => Just(Step::QuarantineOver),
        1 => Just(Step::Backup),
        2 => Just(Step::Restore),
    ]
}

fn pool_name(pool: AtPool) -> PoolName {
    POOLS[pool].0.parse().unwrap()
}

fn node_name(node: usize) -> NodeName {
    format!("host{node}").parse().unwrap()
}

/// A claim as it must be in the store until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    prefix: Prefix,
    claimed: Revision,
    announced: bool,
}

type AllExpected = BTreeMap<(NodeName, PoolName), Expected>;

struct Sequence {
    it: Fixture,
    reservations: Reservations,
    ids: Vec<NodeId>,
    backup: RefCell<Option<Backup>>,
    expected: RefCell<AllExpected>,
    /// What each node was granted last in a pool, and has not lost by its own knowledge.
    known: RefCell<BTreeMap<(usize, PoolName), Claim>>,
}

impl Sequence {
    async fn start() -> Self {
        let it = Fixture::new(None).await;
        for (name, prefix, _) in POOLS {
            it.pools.add(&pool(name, prefix, 64)).await.unwrap();
        }
        let claims = &it.claims;
        let reservations =
            Reservations::new(claims.registry.clone(), claims.keys.clone(), claims.index.clone());
        Self {
            it,
            reservations,
            ids: (0..NODES).map(|_| NodeId::random()).collect(),
            backup: None.into(),
            expected: RefCell::default(),
            known: RefCell::default(),
        }
    }

    async fn take(&self, step: &Step) {
        let claims = &self.it.claims;
        match step {
            Step::Claim(asking) => self.claim(asking).await,
            Step::Session(node, connects) => self.session(*node, *connects).await,
            Step::Announce(node, pools) => self.announce(*node, pools).await,
            Step::Forget(node, pool, force) => self.forget(*node, pool.map(pool_name), *force).await,
            Step::HoldDown(node) => {
                let (name, was) = (node_name(*node), self.liveness(*node, None));
                let ended = claims.hold_down(&name).await.map(|(_, revision)| revision);
                self.ended(&name, None, was, false, ended).await;
            }
            Step::Reassign(moving) => self.reassign(moving).await,
            Step::Reserve(pool, at, len, node) => {
                let prefix = prefix_in(*pool, *at, *len);
                let node = node.map(node_name);
                let record = ReservationRecord { node, reason: "test".into(), created_unix_ms: 0 };
                let _refused = self.reservations.reserve(prefix, &record).await;
            }
            Step::Unreserve(index) => {
                let nth =
                    claims.index.read(|state| state.holdings().reservations().keys().nth(*index).copied());
                if let Some(prefix) = nth {
                    self.reservations.unreserve(prefix).await.unwrap();
                }
            }
            Step::Drain(pool, draining) => {
                self.it.pools.drain(&pool_name(*pool), *draining).await.unwrap();
            }
            Step::Grow(len) => {
                let to = POOLS[0].1.parse::<Prefix>().unwrap().ancestor(*len).unwrap();
                let _smaller = self.it.pools.grow(&pool_name(0), to).await;
            }
            Step::QuarantineOver => {
                let over = Claims { quarantine: Duration::ZERO, ..claims.clone() };
                over.end_quarantines().await.unwrap();
            }
            Step::Backup => {
                let backup = backup::take(&claims.registry, &claims.keys, "test").await.unwrap();
                self.backup.replace(Some(backup));
            }
            Step::Restore => {
                let backup = self.backup.borrow().clone();
                if let Some(backup) = backup {
                    self.restore(&backup).await;
                }
            }
        }
    }

    /// Its agent has a session from now on, or has none any more.
    async fn session(&self, node: usize, connects: bool) {
        let Claims { registry, keys, index, .. } = &self.it.claims;
        let key = keys.session(&node_name(node));
        let record = SessionRecord { controller: "here".into(), instance: None, serial: String::new() };
        let op = if connects { Op::put(key, record.encode()) } else { Op::Delete(key) };
        let outcome = registry.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        let Outcome::Committed(revision) = outcome else { panic!("{outcome:?}") };
        assert!(index.reaches(revision, CATCH_UP).await);
    }

    /// Announces with the epoch of any of its claims.
    async fn announce(&self, node: usize, pools: &[AtPool]) {
        let (claims, name) = (&self.it.claims, node_name(node));
        let incarnation = claims.index.read(|state| state.meta().incarnation);
        let epoch = |it: &Expected| Epoch { incarnation, revision: it.claimed };
        let pools: BTreeSet<_> = pools.iter().map(|pool| pool_name(*pool)).collect();
        let mut all = self.expected.borrow().clone();
        let mut its: Vec<_> = all.iter_mut().filter(|((node, _), _)| *node == name).collect();
        let Some(any) = its.last().map(|(_, it)| epoch(it)) else { return };
        its.iter_mut().for_each(|((_, pool), it)| it.announced = pools.contains(pool));
        let announced = its.iter().filter(|(_, it)| it.announced);
        let announced =
            announced.map(|(_, it)| AnnouncedClaim { epoch: epoch(it), container_prefixes: vec![] });
        let announcement = Announcement { uplinks: vec![], claims: announced.collect(), pool_order: vec![] };
        let holder = Holder { node: name, node_id: self.ids[node], epoch: any };
        claims.announce(&holder, &announcement, None).await.unwrap();
        self.expected.replace(all);
    }

    fn liveness(&self, node: usize, pool: Option<&PoolName>) -> Liveness {
        let name = node_name(node);
        self.it.claims.index.read(|state| {
            let node = state.nodes().get(&name).map(|node| &node.record);
            Liveness {
                exists: node.is_some(),
                holds: node.is_some_and(|node| pool.is_none_or(|pool| node.claim_in(pool).is_some())),
                connected: state.sessions().contains_key(&name),
            }
        })
    }

    async fn forget(&self, node: usize, pool: Option<PoolName>, force: bool) {
        let (name, was) = (node_name(node), self.liveness(node, pool.as_ref()));
        let scope = pool.as_ref().map_or(Scope::Node, Scope::Pool);
        let ended = self.it.claims.forget_all(std::slice::from_ref(&name), scope, force, None).await;
        self.ended(&name, pool.as_ref(), was, force, ended.map(|it| it.revision)).await;
    }

    /// Claims ended, or not: never those of a node that is connected, unless by force.
    async fn ended(
        &self,
        name: &NodeName,
        pool: Option<&PoolName>,
        was: Liveness,
        force: bool,
        ended: Result<Revision, ForgetError>,
    ) {
        match ended {
            Ok(revision) => {
                assert!(was.holds && (force || !was.connected), "{was:?}, force: {force}");
                assert!(self.it.claims.index.reaches(revision, CATCH_UP).await);
                let ended =
                    |node: &NodeName, of: &PoolName| node == name && pool.is_none_or(|pool| pool == of);
                self.expected.borrow_mut().retain(|(node, of), _| !ended(node, of));
            }
            Err(ForgetError::Unknown(_)) => assert!(!was.exists, "{was:?}"),
            Err(ForgetError::NoClaim { .. }) => assert!(was.exists && !was.holds, "{was:?}"),
            Err(ForgetError::Up { .. }) => assert!(was.connected && !force, "{was:?}, force: {force}"),
            Err(ForgetError::Brake { tally, more, .. }) => assert!(tally.recent + more > tally.limit),
            Err(error) => panic!("{error}"),
        }
    }

    /// Restores the backup and closes the recovery window; checks that a refused restore changes nothing, and that another one
    /// takes nothing away.
    async fn restore(&self, backup: &Backup) {
        let Claims { registry, keys, index, by, .. } = &self.it.claims;
        let content = async || registry.list(&keys.all()).await.unwrap().entries;
        let before = content().await;
        match backup::restore(registry, keys, backup, by).await {
            Ok(restored) => {
                assert!(index.reaches(restored.revision, CATCH_UP).await);
                let finished = store::finish(registry, keys, index, by, &[]).await.unwrap();
                assert!(index.reaches(finished.revision, CATCH_UP).await);
                let stored = index.read(stored);
                for (of, expected) in &*self.expected.borrow() {
                    assert_eq!(stored.get(of), Some(expected), "{of:?} after a restore");
                }
                self.expected.replace(stored);
            }
            Err(backup::RestoreError::Conflicts(_)) => assert_eq!(content().await, before),
            Err(error) => panic!("{error}"),
        }
    }

    /// Claims, and checks the result against the state before.
    async fn claim(&self, asking: &Asking) {
        let (claims, name) = (&self.it.claims, node_name(asking.node));
        let known = (asking.node, pool_name(asking.pool));
        let request = ClaimRequest {
            node: name.clone(),
            node_id: self.ids[asking.node],
            pool: Some(known.1.clone()),
            host_len: asking.host_len,
            held: self.known.borrow().get(&known).filter(|_| asking.held).cloned(),
            ancestors: Vec::new(),
            unproven: None,
            beside: asking.beside,
            infrastructure: Vec::new(),
            pool_order: Vec::new(),
            accept_pools: Vec::new(),
        };
        let before = claims.index.read(|state| Before::of(state, &name));
        let pool = |name: &PoolName| &before.pools[name];
        match claims.claim(&request).await {
            Ok(Granted::Claim(claim)) => {
                before.allows(&request, &claim);
                // The next step is checked against the index.
                assert!(claims.index.reaches(claim.epoch.revision, CATCH_UP).await);
                self.granted(asking.node, claim);
            }
            Ok(Granted::Fenced(why)) => {
                let held = request.held.unwrap_or_else(|| panic!("{why}"));
                assert!(before.is_of_here(&held) && !before.holds(&held), "{why}: {held:?} in {before:?}");
                self.known.borrow_mut().remove(&known);
            }
            Err(ClaimError::Closed(name)) => assert!(pool(&name).draining),
            Err(ClaimError::HostLength { host_len, .. }) => {
                assert!(host_len < pool(&known.1).prefix.len().into());
            }
            Err(ClaimError::Exhausted { len, .. }) => {
                assert!(!before.any_free(&known.1, len, false), "something of /{len} was free: {before:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn granted(&self, node: usize, claim: Claim) {
        let (prefix, claimed, pool) = (claim.prefix, claim.epoch.revision, claim.pool.name.clone());
        let new = Expected { prefix, claimed, announced: false };
        let mut expected = self.expected.borrow_mut();
        let there = expected.entry((node_name(node), pool.clone())).or_insert(new);
        assert_eq!((there.prefix, there.claimed), (prefix, claimed), "I2");
        self.known.borrow_mut().insert((node, pool), claim);
    }

    /// I1, that nothing is in the store but what was granted and has not ended, and that the search tree agrees with the records.
    fn check(&self) {
        self.it.claims.index.read(|state| {
            assert_eq!(stored(state), *self.expected.borrow());
            let claims: Vec<_> = state.claims().iter().collect();
            let reservations = state.holdings().reservations();
            for (n, (prefix, claim)) in claims.iter().enumerate() {
                assert!(claims[..n].iter().all(|(other, _)| !prefix.overlaps(**other)), "I1: {claims:?}");
                for (other, reservation) in reservations {
                    let its_own =
                        *prefix == other && reservation.record.node.as_ref() == Some(&claim.record.node);
                    assert!(its_own || !prefix.overlaps(*other), "I1: {prefix} and {other}");
                }
                assert!(state.pools()[&claim.record.pool].record.prefix.covers(**prefix));
            }
            state.nodes().iter().for_each(|(name, node)| check_node(state, name, &node.record));
            let all = "::/0".parse().unwrap();
            let count = |kind| state.holdings().occupied().count(all, kind) as usize;
            assert_eq!(count(Kind::Taken), claims.len() + reservations.len());
            assert_eq!(count(Kind::Quarantined), state.holdings().freed().len());
        });
    }
}

/// All claims by the nodes' records.
fn stored(state: &State) -> AllExpected {
    let of_node = |name: &NodeName, node: &NodeRecord| -> Vec<_> {
        let claim = |held: &HeldClaim| {
            let claimed = state.claims()[&held.prefix].created;
            let expected = Expected { prefix: held.prefix, claimed, announced: held.announced };
            ((name.clone(), held.pool.clone()), expected)
        };
        node.claims.iter().map(claim).collect()
    };
    let all: Vec<_> = state.nodes().iter().flat_map(|(name, node)| of_node(name, &node.record)).collect();
    assert_eq!(all.len(), state.claims().len(), "each claim is listed in its node's record");
    let by_pool: AllExpected = all.iter().cloned().collect();
    assert_eq!(by_pool.len(), all.len(), "a node has two claims in a pool: {all:?}");
    by_pool
}

fn check_node(state: &State, name: &NodeName, node: &NodeRecord) {
    for held in &node.claims {
        let claim = &state.claims()[&held.prefix].record;
        assert_eq!((&claim.node, claim.node_id, &claim.pool), (name, node.node_id, &held.pool));
    }
    let revisions: BTreeSet<_> =
        node.claims.iter().map(|held| state.claims()[&held.prefix].created).collect();
    assert_eq!(revisions.len(), node.claims.len(), "claims of one node are distinguished by their revisions");
    let any = node.claims.iter().any(|held| held.announced);
    assert_eq!(any, node.state == NodeState::Ready, "{node:?}");
    assert!(node.is_of_first_form() || state.meta().has_several_claims(), "{node:?}");
}

/// A node before claims of it were to end.
#[derive(Debug, Clone, Copy)]
struct Liveness {
    exists: bool,
    holds: bool,
    connected: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn i1_no_sequence_makes_an_overlap(steps in proptest::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sequence = Sequence::start().await;
            for step in &steps {
                sequence.take(step).await;
                sequence.check();
            }
        });
    }
}
