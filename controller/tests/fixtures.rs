//! Stores and backups that earlier versions wrote are read: one directory of `fixtures` for each form.
//!
//! A fixture that is checked in is never changed. A version that writes another form adds a directory of its own:
//! `cargo run -p sextant-controller --example write_fixtures -- controller/tests/fixtures/v4`

#![allow(clippy::unwrap_used)]

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use sextant_backup_file::Backup;
use sextant_controller::{
    audit, backup,
    claims::{ClaimRequest, Claims, Granted},
    index::{Index, IndexTask},
    keys::Keys,
    pools::Pools,
    records::{FORMAT, Meta, Record},
    registry::{Op, SharedRegistry, Txn, embedded::EmbeddedStore},
    store,
};
use sextant_proto::{ClaimPhase, Epoch, NodeName, NodeState, Pool, Revision};

const THEN_MS: u64 = 1_800_000_000_000;

/// All forms that were ever written.
const FORMS: [&str; 3] = ["v1", "v2", "v3"];

fn fixture(form: &str, name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", form, name].iter().collect()
}

fn keys() -> Keys {
    Keys::new(&"default".parse().unwrap())
}

/// A copy of the store, as opening it may write to it.
async fn opened(form: &str) -> (tempfile::TempDir, SharedRegistry, Index) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("controller.redb");
    std::fs::copy(fixture(form, "controller.redb"), &path).unwrap();
    // A checkout has its own idea of who may read it; a store's file is its owner's alone.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&path).unwrap());
    let meta = store::open(&registry, &keys()).await.unwrap();
    let (_task, index) = IndexTask::start(registry.clone(), keys(), meta).await.unwrap();
    (dir, registry, index)
}

#[tokio::test]
async fn a_store_of_each_form_is_read() {
    for form in FORMS {
        is_read(form).await;
    }
}

async fn is_read(form: &str) {
    let (_dir, registry, index) = opened(form).await;
    let name = |n: u8| -> NodeName { format!("h{n}").parse().unwrap() };
    index.read(|state| {
        let meta = state.meta();
        assert_eq!(meta.incarnation.to_string(), format!("{:032x}", 1));
        assert_eq!(meta.replaces.unwrap().to_string(), format!("{:032x}", 2));
        assert_eq!((meta.created_unix_ms, meta.recovering, meta.restoring), (THEN_MS, true, false));
        assert!(state.control().paused);
        let pool = &state.pools()[&"main".parse().unwrap()].record;
        assert_eq!(
            (pool.prefix.to_string().as_str(), pool.host_len, pool.container_len),
            ("2001:db8:8000::/40", 64, 80)
        );
        let (reserved, _) = state.holdings().reservation_of("2001:db8:8000:ff::1".parse().unwrap()).unwrap();
        assert_eq!(reserved.to_string(), "2001:db8:8000:ff::/64");
        assert_eq!(state.nodes().len(), 4);
        let states = [NodeState::Ready, NodeState::Draining, NodeState::Drained, NodeState::Joining];
        for (n, expected) in (1..).zip(states) {
            let node = &state.nodes()[&name(n)].record;
            assert_eq!(node.state, expected, "h{n}");
            assert_eq!(node.node_id.to_string(), format!("{:032x}", 0x100 + u64::from(n)));
            let prefix = node.claims[0].prefix;
            assert_eq!(prefix.to_string(), format!("2001:db8:8000:{n}::/64"));
            assert_eq!(node.since_unix_ms, THEN_MS + 10 * u64::from(n));
            let claim = &state.claims()[&prefix];
            assert_eq!(
                (&claim.record.node, claim.record.claimed_unix_ms),
                (&name(n), THEN_MS + u64::from(n))
            );
            assert_eq!(claim.created, state.peers()[&name(n)].claims[0].claimed);
        }
        let prior = Epoch { incarnation: meta.replaces.unwrap(), revision: Revision(40) };
        let prior_of = |n| state.claims()[&state.nodes()[&name(n)].record.claims[0].prefix].record.prior;
        assert_eq!((prior_of(1), prior_of(2)), (Some(prior), None));
        let (h1, h2, h3) = (&state.nodes()[&name(1)], &state.nodes()[&name(2)], &state.nodes()[&name(3)]);
        assert_eq!(h1.record.next_hops(), ["2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap()]);
        assert_eq!(h1.record.uplinks[0].interface, "eth0");
        assert_eq!(h1.record.claims[0].container_prefixes, ["2001:db8:8000:1::/80".parse().unwrap()]);
        assert_eq!(h2.record.drain_timeout.as_secs(), 30);
        assert_eq!(h3.record.laggards, ["h1"]);
    });
    let (_, noted) = audit::list(&registry, &keys()).await.unwrap();
    let whats: Vec<_> = noted.iter().map(|noted| noted.record.what.as_str()).collect();
    assert_eq!(whats, ["pool added", "re-registered", "claimed", "claimed", "claimed", "paused"]);
    assert_eq!(noted[1].record.prefix.unwrap().to_string(), "2001:db8:8000:1::/64");
    assert_eq!((noted[1].record.unix_ms, noted[1].record.node.clone()), (THEN_MS + 2, Some(name(1))));
    let claimed = index.read(|state| state.peers()[&name(1)].claims[0].claimed);
    assert_eq!(noted[1].revision, claimed);
}

/// Reservations with what they are for, prefixes that rest, and closed pools are new in the second form.
#[tokio::test]
async fn what_the_second_form_has_more_is_read() {
    let (_dir, _registry, index) = opened("v2").await;
    index.read(|state| {
        let (holdings, pools) = (state.holdings(), state.pools());
        assert!(pools[&"old".parse().unwrap()].record.draining);
        assert!(!pools[&"main".parse().unwrap()].record.draining);
        let (prefix, h7) = holdings.reservation_of("2001:db8:8000:fe::1".parse().unwrap()).unwrap();
        assert_eq!(holdings.reserved_for(&"h7".parse().unwrap()), [prefix]);
        assert_eq!((h7.reason.as_str(), h7.created_unix_ms), ("for later versions", THEN_MS));
        assert!(holdings.reservation_set().is_some());
        let freed = &holdings.freed()[&"2001:db8:8000:5::/64".parse().unwrap()].record;
        assert_eq!((freed.node.as_str(), freed.freed_unix_ms), ("h5", THEN_MS + 5));
        assert_eq!(holdings.had(freed.node_id), ["2001:db8:8000:5::/64".parse().unwrap()]);
    });
}

/// A node with claims in several pools is new in the third form.
#[tokio::test]
async fn what_the_third_form_has_more_is_read() {
    let (_dir, _registry, index) = opened("v3").await;
    index.read(|state| {
        assert_eq!(state.meta().format, FORMAT);
        let h1 = &state.peers()[&"h1".parse().unwrap()];
        let claim = |pool: &str| h1.claim_in(&pool.parse().unwrap()).unwrap();
        assert_eq!((claim("main").state, claim("ula").state), (NodeState::Ready, NodeState::Ready));
        assert_eq!((claim("main").phase, claim("ula").phase), (ClaimPhase::Current, ClaimPhase::Deprecated));
        assert_eq!(claim("ula").claimed, state.claims()[&claim("ula").prefix].created);
        let held = &state.nodes()[&"h1".parse().unwrap()].record.claims[1];
        let containers: Vec<_> = held.container_prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(containers, ["fd00:0:5e00:1::/80", "fd00:0:5e00:1:1::/80"]);
    });
}

/// What a later version writes is refused as a whole, with what to do, and left as it is.
#[tokio::test]
async fn a_store_of_a_later_form_is_refused() {
    let (dir, registry, _index) = opened("v3").await;
    let meta = store::read(&registry, &keys()).await.unwrap().meta;
    let later = Meta { format: FORMAT + 1, ..meta };
    let put = Op::put(keys().meta(), later.encode());
    registry.commit(Txn { guards: vec![], ops: vec![put] }).await.unwrap();
    let before = registry.list(&keys().all()).await.unwrap();
    let refused = store::open(&registry, &keys()).await.unwrap_err().to_string();
    assert!(refused.contains("format 4") && refused.contains("Use a controller of the version"), "{refused}");
    assert_eq!(registry.list(&keys().all()).await.unwrap().revision, before.revision);
    drop(dir);
}

#[tokio::test]
async fn a_backup_of_each_form_is_read_and_restored() {
    for form in FORMS {
        is_restored(form).await;
    }
}

async fn is_restored(form: &str) {
    let (_dir, registry, _index) = opened(form).await;
    let file = Backup::decode(&std::fs::read(fixture(form, "sextant.backup")).unwrap()).unwrap();
    assert_eq!((file.cluster.as_str(), file.store.as_str()), ("default", "embedded:controller.redb"));
    // In the third form, a node has a second claim.
    let claims = if form == "v3" { 5 } else { 4 };
    assert_eq!((file.unix_ms, file.claims()), (THEN_MS, claims));
    let taken = backup::take(&registry, &keys(), "default").await.unwrap();
    assert_eq!((&taken.entries, taken.incarnation), (&file.entries, file.incarnation));
    // The store is from before the marks of its history: they began when it was opened.
    assert_eq!(taken.revision, Revision(file.revision.0 + 1));

    let dir = tempfile::tempdir().unwrap();
    let other: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
    store::open(&other, &keys()).await.unwrap();
    let by = audit::Actor::new("a test");
    let restored = backup::restore(&other, &keys(), &file, &by).await.unwrap();
    assert_eq!(restored.put, file.entries.len());
    let again = backup::take(&other, &keys(), "default").await.unwrap();
    let keys_of = |backup: &Backup| backup.entries.iter().map(|kept| kept.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys_of(&again), keys_of(&file));
}

/// The backup has the claim of h1 in `main` alone; here the node lives with claims in two other pools.
#[tokio::test]
async fn a_backup_of_the_first_form_is_restored_beside_a_node_with_two_claims() {
    let dir = tempfile::tempdir().unwrap();
    let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
    let meta = store::open(&registry, &keys()).await.unwrap();
    let (task, index) = IndexTask::start(registry.clone(), keys(), meta).await.unwrap();
    tokio::spawn(task.run());
    let claims = Claims::new(registry.clone(), keys(), index.clone(), Duration::from_secs(60));
    let pools = Pools::new(registry.clone(), keys(), index.clone());
    let mut live = Vec::new();
    for (name, prefix) in [("ula", "fd00:1::/48"), ("lab", "fd00:2::/48")] {
        let pool = Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 80).unwrap();
        pools.add(&pool).await.unwrap();
        let request = ClaimRequest {
            node: "h1".parse().unwrap(),
            node_id: format!("{:032x}", 0x101).parse().unwrap(),
            pool: Some(pool.name),
            host_len: None,
            held: None,
            ancestors: Vec::new(),
            unproven: None,
            beside: true,
            infrastructure: Vec::new(),
            pool_order: Vec::new(),
            accept_pools: Vec::new(),
        };
        let Granted::Claim(claim) = claims.claim(&request).await.unwrap() else { panic!("fenced") };
        live.push(claim);
    }
    let file = Backup::decode(&std::fs::read(fixture("v1", "sextant.backup")).unwrap()).unwrap();
    let restored = backup::restore(&registry, &keys(), &file, &audit::Actor::new("a test")).await.unwrap();
    assert!(index.reaches(restored.revision, Duration::from_secs(5)).await);
    index.read(|state| {
        assert_eq!(state.meta().format, FORMAT);
        let h1 = &state.nodes()[&"h1".parse().unwrap()].record;
        let expected = [live[0].prefix, live[1].prefix, "2001:db8:8000:1::/64".parse().unwrap()];
        assert_eq!(h1.prefixes(), expected, "the live claims first");
        assert!(h1.claims.iter().all(|claim| !claim.announced), "its host is not set up for the third");
        let revisions: Vec<_> = h1.prefixes().iter().map(|prefix| state.claims()[prefix].created).collect();
        assert_eq!(revisions[..2], [live[0].epoch.revision, live[1].epoch.revision]);
        assert_eq!((state.nodes().len(), state.claims().len()), (4, 6));
    });
}
