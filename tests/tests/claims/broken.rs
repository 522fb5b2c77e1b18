//! The checker finds what a store without its guards does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sextant_controller::{
    claims::{ClaimError, ClaimRequest, Claims, ForgetError, Granted},
    index::IndexTask,
    keys::{Key, Keys},
    pools::Pools,
    records::{ClaimRecord, Record},
    registry::{
        Guard, KeyRange, LeaseId, Listing, Outcome, Registry, RegistryError, SharedRegistry, Txn, Watch,
        embedded::EmbeddedStore,
    },
    store,
};
use sextant_proto::{NodeId, Pool, Revision};
use sextant_tests::claims::{
    claimers::{self, Book, Desk},
    history::{self, Heard, Violation},
};

/// A store that does not look whether a range is empty.
struct Broken(SharedRegistry);

#[async_trait]
impl Registry for Broken {
    fn describe(&self) -> String {
        "broken".into()
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.0.list(range).await
    }

    async fn commit(&self, mut txn: Txn) -> Result<Outcome, RegistryError> {
        txn.guards.retain(|guard| !matches!(guard, Guard::RangeAbsent(_)));
        self.0.commit(txn).await
    }

    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.0.watch(range, after)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.0.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.0.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.0.revoke(lease).await
    }
}

/// The claim logic of one controller.
#[derive(Clone)]
struct Logic(Claims);

impl Desk for Logic {
    async fn claim(&self, node: &str, id: NodeId, host_len: u32) -> Heard {
        let request = ClaimRequest {
            node: node.parse().unwrap(),
            node_id: id,
            pool: None,
            host_len: (host_len > 0).then_some(host_len),
            held: None,
        };
        match self.0.claim(&request).await {
            Ok(Granted::Claim(claim)) => Heard::Done(Some(claim.prefix)),
            Ok(Granted::Fenced(_)) | Err(ClaimError::Exhausted { .. }) => Heard::Refused,
            Err(_) => Heard::Unknown,
        }
    }

    async fn end(&self, node: &str) -> Heard {
        match self.0.forget(&node.parse().unwrap(), false).await {
            Ok(_) | Err(ForgetError::Unknown(_)) => Heard::Done(None),
            Err(_) => Heard::Unknown,
        }
    }
}

/// 64 claimers at three controllers' logic over `wrap` of one store.
async fn violations(wrap: impl Fn(SharedRegistry) -> SharedRegistry) -> Vec<Violation> {
    let dir = std::env::temp_dir().join(format!("sextant-broken-{}", NodeId::random()));
    std::fs::create_dir(&dir).unwrap();
    let registry: SharedRegistry = wrap(Arc::new(EmbeddedStore::open(&dir.join("store")).unwrap()));
    let keys = Keys::new(&"test".parse().unwrap());
    let meta = store::open(&registry, &keys).await.unwrap();
    let mut desks = Vec::new();
    for _ in 0..3 {
        let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta.clone()).await.unwrap();
        tokio::spawn(task.run());
        let pool = Pool::new("main".parse().unwrap(), "2001:db8:1::/56".parse().unwrap(), 64, 64).unwrap();
        Pools::new(registry.clone(), keys.clone(), index.clone()).add(&pool).await.unwrap();
        desks.push(Logic(Claims::new(registry.clone(), keys.clone(), index, Duration::ZERO)));
    }
    let (book, start) = (Arc::new(Book::default()), Instant::now());
    let claimers = (0..64)
        .map(|number| tokio::spawn(claimers::run(number, 7, desks.clone(), book.clone(), start)))
        .collect::<Vec<_>>();
    while book.events().len() < 1500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    book.close();
    for claimer in claimers {
        claimer.await.unwrap();
    }
    let entries = registry.list(&keys.all()).await.unwrap().entries;
    let claims = entries.iter().filter_map(|entry| match keys.parse(&entry.key) {
        Some(Key::Claim(prefix)) => {
            Some((prefix, ClaimRecord::decode(&entry.value).unwrap().node.to_string()))
        }
        _ => None,
    });
    let found = history::check(&book.events(), &claims.collect::<Vec<_>>());
    std::fs::remove_dir_all(dir).unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_store_passes_and_one_without_a_guard_does_not() {
    assert_eq!(violations(|registry| registry).await, []);
    let found = violations(|registry| Arc::new(Broken(registry))).await;
    assert!(found.iter().any(|violation| violation.0.contains("overlap")), "{found:?}");
}
