//! Failures of etcd with running agents: compaction, frozen members, no space, expired tokens, many keys.

use futures::StreamExt;
use sextant_controller::{
    keys::Keys,
    records::{ClaimRecord, HeldClaim, NodeRecord, Record},
    registry::{Op, SharedRegistry, Txn},
};
use sextant_proto::{NodeId, Prefix};
use sextant_tests::{SECONDS, poll};

use crate::{
    etcd::{Cluster, Setup},
    watched::{LONG, Watched},
};

/// Commits all of `txns`, some at a time; whether all went through.
async fn commit_all(store: SharedRegistry, txns: Vec<Txn>) -> bool {
    let commits = txns.into_iter().map(|txn| {
        let store = store.clone();
        async move { store.commit(txn).await.is_ok() }
    });
    futures::stream::iter(commits).buffer_unordered(16).all(std::future::ready).await
}

fn puts(ops: Vec<Op>) -> Txn {
    Txn { guards: Vec::new(), ops }
}

#[test]
fn a_controller_frozen_during_a_compaction_lists_the_store_again() {
    const CHANGES: usize = 3000;
    let cluster = Cluster::start("compaction", 2);
    let watched = Watched::begin(&cluster);
    let controller = &cluster.controllers[0].process;
    controller.freeze().unwrap();
    // More than the connection and the member keep for who does not read, of keys that are watched and mean nothing.
    let value = "x".repeat(16 << 10);
    let changes = (0..CHANGES)
        .map(|n| puts(vec![Op::put(format!("/sextant/v1/default/other/{}", n % 10), value.clone())]));
    let changes: Vec<_> = changes.collect();
    let client = cluster.etcd.connect(&cluster.lab).unwrap();
    assert!(client.with(|store| commit_all(store, changes)));
    cluster.lab.cli_of(2, &["pause"]).unwrap().succeeded().unwrap();
    let revision = client.with(async |store| store.list(&Keys::new(&"default".parse().unwrap()).all()).await);
    let revision = revision.unwrap().revision.to_string();
    cluster.etcd.etcdctl(&cluster.lab, &["compaction", "--physical", &revision]).unwrap();
    watched.passes(LONG);
    controller.thaw().unwrap();
    controller.wait_for_line("listing again", 30 * SECONDS).unwrap();
    poll("controller 1 knows what was said meanwhile", 30 * SECONDS, || {
        let status = cluster.lab.cli_of(1, &["status"])?.succeeded()?.stdout;
        anyhow::ensure!(status.contains("paused"), "{status}");
        Ok(())
    });
    cluster.sextant(&["resume"]);
    cluster.settle();
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

#[test]
fn a_leader_frozen_for_a_minute_loses_nothing() {
    let cluster = Cluster::start("frozen minute", 2);
    let watched = Watched::begin(&cluster);
    let leader = cluster.etcd.leader(&cluster.lab).unwrap();
    cluster.etcd.member(leader).freeze().unwrap();
    watched.passes(30 * SECONDS);
    cluster.settle();
    watched.passes(30 * SECONDS);
    cluster.etcd.member(leader).thaw().unwrap();
    cluster.settle();
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

#[test]
fn a_leader_killed_ten_times_loses_nothing() {
    let mut cluster = Cluster::start("ten leaders", 2);
    let watched = Watched::begin(&cluster);
    for _ in 0..10 {
        let leader = cluster.etcd.leader(&cluster.lab).unwrap();
        cluster.etcd.member(leader).kill().unwrap();
        for change in ["pause", "resume"] {
            poll("a change goes through", 30 * SECONDS, || {
                let changed = cluster.lab.cli(&[change])?;
                anyhow::ensure!(changed.code == 0, "{changed:?}");
                Ok(())
            });
        }
        cluster.etcd.start_member(&cluster.lab, leader).unwrap();
        cluster.etcd.wait_healthy(&cluster.lab, leader).unwrap();
    }
    cluster.settle();
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

#[test]
fn a_full_store_refuses_claims_and_keeps_the_rest() {
    let setup = Setup { etcd: &["--quota-backend-bytes=16777216"], ..Setup::default() };
    let mut cluster = Cluster::start_with("full store", 2, setup);
    let watched = Watched::begin(&cluster);
    let client = cluster.etcd.connect(&cluster.lab).unwrap();
    let fill = |round: usize| vec![puts(vec![Op::put("/other/fill", format!("{round}").repeat(200_000))])];
    let full = (0..1000).any(|round| !client.with(|store| commit_all(store, fill(round))));
    assert!(full, "it took everything");
    let add = cluster.lab.cli(&["pool", "add", "late", "2001:db8:9000::/40", "--host-len", "64"]).unwrap();
    assert_eq!(add.code, 5, "{add:?}");
    assert!(add.stderr.contains("alarm disarm"), "the fix: {add:?}");
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    cluster.start_agent(2);
    cluster.agents[2].process.wait_for_line("alarm disarm", 30 * SECONDS).unwrap();
    watched.passes(2 * LONG);
    watched.routes_stay();
    let etcdctl = |args: &[&str]| cluster.etcd.etcdctl(&cluster.lab, args).unwrap();
    let revision = client.with(async |store| store.list(&Keys::new(&"default".parse().unwrap()).all()).await);
    etcdctl(&["compaction", "--physical", &revision.unwrap().revision.to_string()]);
    etcdctl(&["defrag", "--cluster"]);
    etcdctl(&["alarm", "disarm"]);
    cluster.settle();
    cluster.expect_full_mesh();
    watched.nothing_lost(&cluster);
}

#[test]
fn expired_tokens_are_renewed_without_an_error() {
    let setup = Setup { etcd: &["--bcrypt-cost=4", "--auth-token-ttl=1"], login: true, ..Setup::default() };
    let mut cluster = Cluster::start_with("tokens end", 2, setup);
    let watched = Watched::begin(&cluster);
    // Use extends a token's lifetime, so the controllers are frozen for longer than that.
    cluster.controllers.iter().for_each(|controller| controller.process.freeze().unwrap());
    watched.passes(LONG);
    cluster.controllers.iter().for_each(|controller| controller.process.thaw().unwrap());
    cluster.settle();
    watched.nothing_happened(&cluster);
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    cluster.start_agent(2);
    cluster.settle();
    cluster.expect_full_mesh();
    for controller in &cluster.controllers {
        let log = controller.process.log();
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
}

/// Claims without an announcement: controllers list, index and send them, but no agent routes to them.
#[test]
fn controllers_start_with_a_hundred_thousand_keys() {
    const NODES: u32 = 50_000;
    const EACH: usize = 50;
    let mut cluster = Cluster::start("many keys", 2);
    let watched = Watched::begin(&cluster);
    let keys = Keys::new(&"default".parse().unwrap());
    let nodes: Vec<_> = (0..NODES).map(|number| waiting_node(&keys, number)).collect();
    let txns = nodes.chunks(EACH).map(|nodes| puts(nodes.concat())).collect();
    let client = cluster.etcd.connect(&cluster.lab).unwrap();
    assert!(client.with(|store| commit_all(store, txns)));
    for number in [1, 2] {
        cluster.controllers.remove(0);
        cluster.start_controller(number);
        cluster.controllers[1].wait_ready(60 * SECONDS).unwrap();
    }
    poll("the agents are back, with everything", 120 * SECONDS, || {
        let waited = cluster.lab.cli(&["wait", "--timeout", "5s"])?;
        anyhow::ensure!(waited.code == 0 && waited.stdout.contains("all 2 live agents"), "{waited:?}");
        Ok(())
    });
    let nodes = cluster.nodes().unwrap();
    assert_eq!(nodes.len(), NODES as usize + 2);
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

fn waiting_node(keys: &Keys, number: u32) -> Vec<Op> {
    // Far from what the hosts of the lab have claimed.
    let prefix: Prefix = format!("2001:db8:90{:x}:{:x}::/64", number >> 16, number & 0xffff).parse().unwrap();
    let (node, node_id) = (format!("waiting-{number}").parse().unwrap(), NodeId::random());
    let claim = ClaimRecord { node, node_id, pool: "main".parse().unwrap(), claimed_unix_ms: 1, prior: None };
    let held = HeldClaim::new(prefix, claim.pool.clone());
    let record = NodeRecord { since_unix_ms: 1, ..NodeRecord::new(node_id, held) };
    vec![Op::put(keys.claim(prefix), claim.encode()), Op::put(keys.node(&claim.node), record.encode())]
}
