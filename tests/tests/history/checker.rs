//! The checker detects a missing guard: two controllers on one store, with and without the guard.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sextant_controller::{
    claims::{ClaimError, ClaimRequest, Claims, Granted},
    index::IndexTask,
    keys::Keys,
    pools::Pools,
    records::{Meta, Record},
    registry::{
        Guard, KeyRange, LeaseId, Listing, Op, Outcome, Reading, Registry, RegistryError, SharedRegistry,
        Txn, Watch, embedded::EmbeddedStore,
    },
    store,
};
use sextant_proto::{NodeId, Pool, Revision};
use sextant_tests::history::{
    Answer, Asked, Operation, Stored,
    check::{Violation, check},
    recorder::Recorder,
    stored,
};
use tokio::{sync::Barrier, task::JoinSet};

/// How many nodes claim at once, each at both controllers.
const NODES: u8 = 32;
/// Pools of 16 host prefixes each, so that choices collide; some of the nodes get none.
const POOLS: [&str; 2] = ["2001:db8:1::/60", "2001:db8:2::/60"];
const CAPACITY: usize = 16;
/// How many races there are at most. In one of them, two that want the same meet almost surely.
const ROUNDS: usize = 20;

/// Which guards a registry leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Whether a prefix overlaps another.
    Ranges,
    /// Whether the node has changed, and has a claim already.
    Nodes,
}

/// A registry that leaves out guards.
struct Careless {
    store: EmbeddedStore,
    without: Without,
}

#[async_trait]
impl Registry for Careless {
    fn describe(&self) -> String {
        format!("{} without {:?}", self.store.describe(), self.without)
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.store.list(range).await
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.store.read(ranges).await
    }

    async fn commit(&self, mut txn: Txn) -> Result<Outcome, RegistryError> {
        txn.guards.retain(|guard| match (self.without, guard) {
            (Without::Ranges, Guard::RangeAbsent(_)) => false,
            (Without::Nodes, Guard::Absent(key) | Guard::Unchanged(key, _)) => !key.contains("/nodes/"),
            _ => true,
        });
        self.store.commit(txn).await
    }

    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.store.watch(range, after)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.store.revoke(lease).await
    }
}

/// A new store whose recovery window is closed.
async fn opened(registry: &SharedRegistry, keys: &Keys) -> Meta {
    let meta = store::open(registry, keys).await.unwrap();
    let closed = Meta { recovering: false, ..meta };
    let ops = vec![Op::put(keys.meta(), closed.encode())];
    registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
    closed
}

/// The rooms of a controller of its own over `registry`.
async fn controller(registry: &SharedRegistry, keys: &Keys, meta: Meta) -> (Claims, Pools) {
    let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
    tokio::spawn(task.run());
    let pools = Pools::new(registry.clone(), keys.clone(), index.clone());
    (Claims::new(registry.clone(), keys.clone(), index, Duration::ZERO), pools)
}

/// Claims until it is clear what came of it.
async fn claim(claims: Claims, recorder: Arc<Recorder>, request: ClaimRequest) {
    loop {
        let asking = async {
            match claims.claim(&request).await {
                Ok(Granted::Claim(claim)) => {
                    let (prefix, pool) = (claim.prefix, claim.pool.name);
                    Answer::Granted { prefix, pool, epoch: claim.epoch.revision }
                }
                Ok(Granted::Fenced(_)) => Answer::Fenced,
                Err(ClaimError::Contended) => Answer::Unknown("contended".into()),
                Err(error) => Answer::Refused(error.to_string()),
            }
        };
        let who = (&request.node, request.node_id);
        let pool = request.pool.clone().expect("each names its pool");
        let answer = recorder.record(who, Asked::Claim { pool, held: None }, asking).await;
        if !matches!(answer, Answer::Unknown(_)) {
            return;
        }
    }
}

/// What comes of two controllers at which all claim at once: the same nodes at both, each with its one id, from the first
/// pool at the first controller and from this one at the second.
async fn race(without: Without, pool_of_second: usize) -> (Vec<Operation>, Stored) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let registry: SharedRegistry = Arc::new(Careless { store, without });
    let keys = Keys::new(&"test".parse().unwrap());
    let meta = opened(&registry, &keys).await;
    let (first, pools) = controller(&registry, &keys, meta.clone()).await;
    let (second, _) = controller(&registry, &keys, meta).await;
    for (number, prefix) in POOLS.iter().enumerate() {
        let pool = Pool::new(format!("pool{number}").parse().unwrap(), prefix.parse().unwrap(), 64, 80);
        pools.add(&pool.unwrap()).await.unwrap();
    }
    let (recorder, all) = (Arc::new(Recorder::default()), Arc::new(Barrier::new(2 * usize::from(NODES))));
    let mut claiming = JoinSet::new();
    for number in 0..NODES {
        for (claims, pool) in [(first.clone(), 0), (second.clone(), pool_of_second)] {
            let request = ClaimRequest {
                node: format!("n{number}").parse().unwrap(),
                node_id: NodeId::try_from(&[number; 16][..]).unwrap(),
                pool: Some(format!("pool{pool}").parse().unwrap()),
                host_len: None,
                held: None,
                ancestors: Vec::new(),
                unproven: None,
                beside: true,
                infrastructure: Vec::new(),
                pool_order: Vec::new(),
                accept_pools: Vec::new(),
            };
            let (recorder, all) = (recorder.clone(), all.clone());
            claiming.spawn(async move {
                all.wait().await;
                claim(claims, recorder, request).await;
            });
        }
    }
    claiming.join_all().await;
    (recorder.history(), stored::read(&*registry, &keys).await.unwrap())
}

/// Races until the checker finds what is looked for, or a limit; all that it found.
async fn found(
    without: Without,
    pool_of_second: usize,
    looked_for: impl Fn(&Violation) -> bool,
) -> Vec<Violation> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let (history, stored) = race(without, pool_of_second).await;
        all.extend(check(&history, &stored).err().unwrap_or_default());
        if all.iter().any(&looked_for) {
            break;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_without_the_range_guard_the_checker_reports_an_overlap() {
    let is_overlap = |violation: &Violation| matches!(violation, Violation::Overlap(..));
    let found = found(Without::Ranges, 0, is_overlap).await;
    assert!(found.iter().any(is_overlap), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_without_the_node_guard_the_checker_reports_a_claim_that_its_node_lacks() {
    let is_unmatched = |violation: &Violation| matches!(violation, Violation::Unmatched { .. });
    let found = found(Without::Nodes, 1, is_unmatched).await;
    assert!(found.iter().any(is_unmatched), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_with_all_guards_the_checker_reports_nothing() {
    for (pool_of_second, capacity) in [(0, CAPACITY), (1, 2 * CAPACITY)] {
        let (history, stored) = race(Without::Nothing, pool_of_second).await;
        let summary = check(&history, &stored).unwrap_or_else(|found| panic!("{found:#?}"));
        assert_eq!((summary.claims, summary.stored), (capacity, capacity), "{summary}");
        assert_eq!(found(Without::Nothing, pool_of_second, |_| true).await, []);
    }
}
