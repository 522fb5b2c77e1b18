use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sextant_backup_file::FileError;
use sextant_proto::{NodeId, NodeName, NodeState, Pool, Prefix, Revision};

use super::*;
use crate::{
    audit::Actor,
    records::{ClaimRecord, ControlRecord, HeldClaim, NodeRecord},
    registry::{
        KeyRange, LeaseId, Listing, Op, Outcome, Reading, Registry, Txn, Watch, embedded::EmbeddedStore,
    },
    store,
};

struct Store {
    _dir: tempfile::TempDir,
    registry: SharedRegistry,
    keys: Keys,
}

impl Store {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        let keys = Keys::new(&"test".parse().unwrap());
        store::open(&registry, &keys).await.unwrap();
        Self { _dir: dir, registry, keys }
    }

    async fn with(nodes: u16) -> Self {
        let store = Self::new().await;
        store.put(vec![Op::put(store.keys.pool(&"main".parse().unwrap()), pool().encode())]).await;
        for n in 0..nodes {
            store.node(n, n, 1).await;
        }
        store
    }

    async fn put(&self, ops: Vec<Op>) {
        let outcome = self.registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)));
    }

    /// Node `n` with id `id` holds the prefix number `nth`.
    async fn node(&self, n: u16, nth: u16, id: u128) {
        self.put(self.node_ops(n, nth, id).ops).await;
    }

    fn node_ops(&self, n: u16, nth: u16, id: u128) -> Txn {
        let (prefix, node) = (prefix(nth), name(n));
        let node_id = NodeId::try_from(&(id << 16 | u128::from(n)).to_be_bytes()[..]).unwrap();
        let pool: sextant_proto::PoolName = "main".parse().unwrap();
        let claim =
            ClaimRecord { node: node.clone(), node_id, pool: pool.clone(), claimed_unix_ms: 5, prior: None };
        let record = NodeRecord {
            state: NodeState::Ready,
            uplinks: vec![],
            since_unix_ms: 5,
            ..NodeRecord::new(node_id, HeldClaim { announced: true, ..HeldClaim::new(prefix, pool.clone()) })
        };
        let keys = &self.keys;
        let ops =
            vec![Op::put(keys.claim(prefix), claim.encode()), Op::put(keys.node(&node), record.encode())];
        Txn { guards: Vec::new(), ops }
    }

    async fn backup(&self) -> Backup {
        super::take(&self.registry, &self.keys, "test").await.unwrap()
    }

    /// All that lasts, claims without since when they were held elsewhere.
    async fn content(&self) -> Vec<(String, Vec<u8>)> {
        let entries = self.backup().await.entries;
        let value = |kept: &Kept| match ClaimRecord::decode(&kept.value) {
            Ok(claim) if kept.key.starts_with("claims/") => ClaimRecord { prior: None, ..claim }.encode(),
            _ => kept.value.clone(),
        };
        entries.iter().map(|kept| (kept.key.clone(), value(kept).to_vec())).collect()
    }

    async fn meta(&self) -> Meta {
        store::read(&self.registry, &self.keys).await.unwrap().meta
    }

    async fn restore(&self, backup: &Backup) -> Result<Restored, RestoreError> {
        restore(&self.registry, &self.keys, backup, &Actor::controller()).await
    }
}

fn pool() -> Pool {
    Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap()
}

fn prefix(nth: u16) -> Prefix {
    pool().prefix.nth(64, nth.into()).unwrap()
}

fn name(n: u16) -> NodeName {
    format!("h{n}").parse().unwrap()
}

/// A store that goes away after so many transactions, or in which somebody else does something right before the first one.
struct Harmed {
    registry: SharedRegistry,
    transactions: AtomicUsize,
    others: Mutex<Option<Txn>>,
}

impl Harmed {
    fn failing(store: &Store, transactions: usize) -> SharedRegistry {
        let registry = store.registry.clone();
        Arc::new(Self { registry, transactions: transactions.into(), others: Mutex::default() })
    }

    fn racing(store: &Store, others: Txn) -> SharedRegistry {
        let registry = store.registry.clone();
        Arc::new(Self { registry, transactions: usize::MAX.into(), others: Some(others).into() })
    }
}

#[async_trait]
impl Registry for Harmed {
    fn describe(&self) -> String {
        self.registry.describe()
    }
    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.registry.list(range).await
    }
    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.registry.read(ranges).await
    }
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        let left =
            self.transactions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| RegistryError::Unavailable("gone".into()))?;
        let others = self.others.lock().unwrap().take();
        if let Some(others) = others {
            self.registry.commit(others).await?;
        }
        self.registry.commit(txn).await
    }
    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.registry.watch(range, after)
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.registry.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.registry.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.registry.revoke(lease).await
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_named() {
    let backup = Store::with(3).await.backup().await;
    let file = backup.encode();
    assert_eq!(Backup::decode(&file).unwrap(), backup);
    for at in 0..file.len() {
        let mut damaged = file.to_vec();
        damaged[at] ^= 0x10;
        assert!(Backup::decode(&damaged).is_err(), "octet {at}");
        assert!(Backup::decode(&file[..at]).is_err(), "cut off at {at}");
    }
    let mut newer = file.to_vec();
    newer[18] = 3;
    assert_eq!(Backup::decode(&newer), Err(FileError::Newer(3)));
    assert_eq!(Backup::decode(b"sextant restore\0"), Err(FileError::NotABackup));
    let mut last = file.to_vec();
    *last.last_mut().unwrap() ^= 1;
    assert!(matches!(Backup::decode(&last), Err(FileError::Checksum { .. })));
    assert!(matches!(Backup::decode(&file[..file.len() - 1]), Err(FileError::Length { .. })));
}

#[tokio::test]
async fn a_restored_store_has_the_same_content_and_another_incarnation() {
    let (from, to) = (Store::with(250).await, Store::new().await);
    let session = from.registry.grant(Duration::from_secs(60)).await.unwrap();
    let key = from.keys.session(&name(1));
    from.put(vec![Op::Put { key, value: "".into(), lease: Some(session) }]).await;
    from.put(vec![Op::put(from.keys.control(), ControlRecord { paused: false }.encode())]).await;
    let (backup, before) = (from.backup().await, to.meta().await);
    let restored = to.restore(&backup).await.unwrap();
    let meta = to.meta().await;
    assert_eq!(restored.put, 501, "pool, claims and nodes");
    assert_eq!(meta.incarnation, restored.incarnation);
    assert_eq!(meta.replaces, Some(before.incarnation));
    assert!(meta.stands_in() && !meta.restoring);
    let control = from.keys.relative(&from.keys.control()).unwrap().to_owned();
    let mut expected = from.content().await;
    expected.retain(|(key, _)| *key != control);
    assert_eq!(to.content().await, expected, "but for the control: put, it would be a resume");
    let claim = to.registry.list(&KeyRange::key(&to.keys.claim(prefix(7)))).await.unwrap().entries.remove(0);
    let prior = ClaimRecord::decode(&claim.value).unwrap().prior.unwrap();
    let created =
        backup.entries.iter().find(|kept| to.keys.absolute(&kept.key) == claim.key).unwrap().created;
    assert_eq!((prior.incarnation, prior.revision), (backup.incarnation, created));
    assert_eq!(to.restore(&backup).await.unwrap().put, 0, "all is there");
}

#[tokio::test]
async fn a_restore_over_live_claims_is_refused_with_their_names() {
    let backup = Store::with(4).await.backup().await;
    let live = Store::with(0).await;
    live.node(9, 2, 1).await;
    live.node(3, 77, 1).await;
    live.node(1, 1, 8).await;
    let before = live.registry.list(&live.keys.all()).await.unwrap();
    let error = live.restore(&backup).await.unwrap_err().to_string();
    for part in [
        "2001:db8:0:2::/64 of node h2 overlaps the live claim of 2001:db8:0:2::/64 by node h9",
        "node h3 holds 2001:db8:0:3::/64 in it, and 2001:db8:0:4d::/64 here",
        "node h1 has id",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(live.registry.list(&live.keys.all()).await.unwrap(), before);
}

#[tokio::test]
async fn no_second_reservation_of_a_node_in_one_pool_is_restored() {
    let reserve = async |store: &Store, nth: u16, of: u16| {
        let record = crate::records::ReservationRecord {
            node: Some(name(of)),
            reason: "rack".into(),
            created_unix_ms: 1,
        };
        store.put(vec![Op::put(store.keys.reservation(prefix(nth)), record.encode())]).await;
    };
    let old = Store::with(1).await;
    reserve(&old, 40, 7).await;
    reserve(&old, 41, 8).await;
    let (backup, live) = (old.backup().await, Store::with(1).await);
    reserve(&live, 50, 9).await;
    reserve(&live, 41, 8).await;
    live.restore(&backup).await.unwrap();

    let live = Store::with(1).await;
    reserve(&live, 50, 7).await;
    let error = live.restore(&backup).await.unwrap_err().to_string();
    let expected =
        format!("{} is for node h7, which has the reservation {} of pool main here", prefix(40), prefix(50));
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test]
async fn a_live_claim_that_is_no_conflict_stays() {
    let backup = Store::with(4).await.backup().await;
    let live = Store::with(2).await;
    live.node(30, 300, 1).await;
    let restored = live.restore(&backup).await.unwrap();
    assert_eq!((restored.put, restored.there), (4, 5));
    assert_eq!(live.backup().await.claims(), 5);
}

/// However far a restore came before it was cut off: the store is as before, or says so; run again it is whole, taken back
/// it is as before.
#[tokio::test]
async fn a_restore_that_is_cut_off_is_finished_or_taken_back() {
    let from = Store::with(120).await;
    let backup = from.backup().await;
    let mut cut_off = 0;
    for commits in 0.. {
        let to = Store::new().await;
        to.node(500, 500, 1).await;
        let before = (to.content().await, to.meta().await);
        let failing = Harmed::failing(&to, commits);
        let done = restore(&failing, &to.keys, &backup, &Actor::controller()).await;
        let meta = to.meta().await;
        if done.is_ok() {
            assert!(commits > 3, "in several transactions");
            break;
        }
        if !meta.restoring {
            assert_eq!((to.content().await, meta), before, "after {commits} transactions");
            continue;
        }
        cut_off += 1;
        let refused = super::take(&to.registry, &to.keys, "test").await.unwrap_err().to_string();
        assert!(refused.contains("sextant restore --undo"), "{refused}");
        if commits % 2 == 0 {
            undo(&to.registry, &to.keys, &Actor::controller()).await.unwrap();
            assert_eq!((to.content().await, to.meta().await), before, "after {commits} transactions");
        }
        to.restore(&backup).await.unwrap();
        assert_eq!(to.backup().await.claims(), 121);
    }
    assert!(cut_off >= 3, "{cut_off}");
    let error = undo(&from.registry, &from.keys, &Actor::controller()).await.unwrap_err().to_string();
    assert!(error.contains("nothing to undo"), "{error}");
}

/// The nodes of `store` hold a prefix of a second pool beside.
async fn with_second_claims(store: &Store, nodes: u16) {
    let ula = Pool::new("ula".parse().unwrap(), "fd00:1::/48".parse().unwrap(), 64, 64).unwrap();
    store.put(vec![Op::put(store.keys.pool(&ula.name), ula.encode())]).await;
    for n in 0..nodes {
        let (prefix, key) = (ula.prefix.nth(64, n.into()).unwrap(), store.keys.node(&name(n)));
        let entry = store.registry.list(&KeyRange::key(&key)).await.unwrap().entries.pop().unwrap();
        let node = NodeRecord::decode(&entry.value).unwrap();
        let (node_id, pool) = (node.node_id, ula.name.clone());
        let claim = ClaimRecord { node: name(n), node_id, pool, claimed_unix_ms: 6, prior: None };
        let node = node.with_claim(HeldClaim::new(prefix, ula.name.clone()));
        let claim = Op::put(store.keys.claim(prefix), claim.encode());
        store.put(vec![claim, Op::put(key, node.encode())]).await;
    }
}

/// A node's claims are distinguished by their create revisions.
#[tokio::test]
async fn i3_no_two_claims_of_a_node_are_restored_at_one_revision() {
    let (from, to) = (Store::with(30).await, Store::new().await);
    with_second_claims(&from, 30).await;
    to.restore(&from.backup().await).await.unwrap();
    let backup = to.backup().await;
    let mut created = std::collections::HashSet::new();
    for kept in backup.entries.iter().filter(|kept| kept.key.starts_with("claims/")) {
        let node = ClaimRecord::decode(&kept.value).unwrap().node;
        assert!(created.insert((node.clone(), kept.created)), "two claims of {node} since {}", kept.created);
    }
    assert_eq!((created.len(), to.meta().await.format), (60, crate::records::FORMAT));
}

/// The nodes are there with their first claims; the backup has their second ones too.
#[tokio::test]
async fn a_restore_of_second_claims_that_is_cut_off_is_finished_or_taken_back() {
    let from = Store::with(60).await;
    with_second_claims(&from, 60).await;
    let backup = from.backup().await;
    let mut cut_off = 0;
    for commits in 0.. {
        let to = Store::with(60).await;
        let before = to.content().await;
        let failing = Harmed::failing(&to, commits);
        if restore(&failing, &to.keys, &backup, &Actor::controller()).await.is_ok() {
            break;
        }
        if to.meta().await.restoring {
            cut_off += 1;
            assert_eq!(to.meta().await.format, crate::records::FORMAT, "before any record has that form");
            undo(&to.registry, &to.keys, &Actor::controller()).await.unwrap();
        }
        assert_eq!(to.content().await, before, "after {commits} transactions");
        to.restore(&backup).await.unwrap();
        assert_eq!(to.backup().await.claims(), 120);
    }
    assert!(cut_off >= 3, "{cut_off}");
}

/// An agent registers what it holds between the plan and the first transaction.
#[tokio::test]
async fn a_node_that_registers_during_a_restore_keeps_its_claim() {
    let (old, new) = (Store::with(250).await, Store::with(0).await);
    let backup = old.backup().await;
    let racing = Harmed::racing(&new, new.node_ops(7, 7, 1));
    let restored = restore(&racing, &new.keys, &backup, &Actor::controller()).await.unwrap();
    assert_eq!((restored.put, restored.there), (249 * 2, 3), "the pool, the node and its claim are there");
    assert_eq!(new.content().await.len(), old.content().await.len());
    assert!(!new.meta().await.restoring);
}

/// Somebody else gets what the backup says that another holds.
#[tokio::test]
async fn a_conflicting_claim_during_a_restore_reverts_it() {
    let (old, new) = (Store::with(250).await, Store::with(0).await);
    let backup = old.backup().await;
    let before = new.meta().await;
    let racing = Harmed::racing(&new, new.node_ops(300, 7, 1));
    let error = restore(&racing, &new.keys, &backup, &Actor::controller()).await.unwrap_err();
    assert!(matches!(error, RestoreError::Conflicts(_)), "{error}");
    assert!(error.to_string().contains("node h300"), "{error}");
    let after = new.meta().await;
    assert_eq!((after.restoring, after.incarnation), (false, before.incarnation), "as if nothing had been");
    assert_eq!(new.content().await.len(), 3, "the pool, h300 and its claim");
}

#[tokio::test]
async fn a_revoked_node_is_revoked_in_a_restored_store_too() {
    let store = Store::with(1).await;
    let denial = crate::records::DenialRecord {
        node_ids: vec![NodeId::random()],
        serials: vec!["1f".into()],
        denied_unix_ms: 5,
        by: "admin ann".into(),
    };
    let key = store.keys.denial(&name(0));
    store.put(vec![Op::put(key, denial.encode())]).await;
    let other = Store::new().await;
    restore(&other.registry, &other.keys, &store.backup().await, &Actor::controller()).await.unwrap();
    let entries = other.registry.list(&KeyRange::key(&other.keys.denial(&name(0)))).await.unwrap().entries;
    assert_eq!(crate::records::DenialRecord::decode(&entries[0].value).unwrap(), denial);
}

#[test]
fn join_tokens_and_the_keys_of_nodes_are_in_no_backup() {
    // Restored, a token would be unspent, and the key of a node that of an earlier host.
    assert!(lasts("nodes/h1") && lasts("pools/main"));
    assert!(!lasts("tokens/3f7c0de1a2b45968") && !lasts("identities/h1"));
}
