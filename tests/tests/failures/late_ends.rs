//! A lost agent's session is ended late, because the store answers late; meanwhile the agent is back.

use anyhow::Context;
use sextant_tests::{
    AgentOptions, ControllerOptions, Etcd, Lab, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::store_proxy::{Request, StoreProxy};

/// In seconds.
const DOWN_AFTER: &str = "6";

/// One controller that reaches etcd through a proxy.
struct Fixture {
    cluster: Cluster,
    proxy: StoreProxy,
    etcd: Etcd,
}

/// A key's revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Revisions {
    created: u64,
    modified: u64,
}

impl Fixture {
    fn start(test: &str, hosts: u16) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = lab.etcd(1, &[]).unwrap();
        etcd.wait_healthy(&lab, 0).unwrap();
        let proxy = StoreProxy::start(&lab, &etcd);
        let hosts = lab.hosts(hosts).unwrap();
        let mut cluster = Cluster { agents: Vec::new(), controller: None, hosts, pool: GUIDE, lab };
        let args = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
        let store = Some(proxy.store());
        cluster.start_controller(ControllerOptions { store, args, ..ControllerOptions::default() });
        cluster.add_pool();
        (0..cluster.hosts.len()).for_each(|index| cluster.start_agent(index));
        cluster.settle();
        Self { cluster, proxy, etcd }
    }

    /// The key of a node's session.
    fn key(&self, node: &str) -> String {
        let keys = self.etcd.etcdctl(&self.cluster.lab, &["get", "", "--prefix", "--keys-only"]).unwrap();
        let found = keys.lines().find(|key| key.ends_with(&format!("/sessions/{node}")));
        found.unwrap_or_else(|| panic!("no session of {node}: {keys}")).to_owned()
    }

    /// The revisions of a key, if it exists.
    fn revisions(&self, key: &str) -> anyhow::Result<Option<Revisions>> {
        let output = self.etcd.etcdctl(&self.cluster.lab, &["get", key, "-w", "fields"])?;
        let field = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")))?;
            line.parse().ok()
        };
        Ok(field("CreateRevision")
            .zip(field("ModRevision"))
            .map(|(created, modified)| Revisions { created, modified }))
    }

    /// Kills an agent, and waits until the end of its session is held: it is lost, and its session still exists.
    fn lose(&self, agent: usize, key: &str) {
        let end = Request::Read(key.to_owned());
        self.proxy.hold(end.clone());
        self.cluster.agents[agent].process.kill().unwrap();
        self.waits_until("the end of its session is held", || self.proxy.holds(&end));
    }

    fn waits_until(&self, expected: &str, condition: impl Fn() -> bool) {
        poll(expected, 20 * SECONDS, || condition().then_some(()).context("not yet"));
    }
}

#[test]
fn an_agent_that_is_back_keeps_its_session_through_the_end_of_its_lost_one() {
    let mut it = Fixture::start("late end: back", 2);
    let key = it.key("h1");
    let lost = it.revisions(&key).unwrap().unwrap();
    it.lose(0, &key);

    it.cluster.start_agent_with(0, AgentOptions::default());
    let back = poll("a new session of h1", 20 * SECONDS, || {
        let now = it.revisions(&key)?.filter(|now| now.modified > lost.modified);
        now.with_context(|| format!("none since {lost:?}"))
    });
    assert_eq!(back.created, lost.created, "the lost session was there until then");

    // h2 is lost after that, so that its session is ended after h1's.
    it.cluster.agents[1].process.kill().unwrap();
    it.proxy.release();
    it.waits_until("h2 is down", || it.cluster.node("h2")["down"] == true);
    assert_eq!(it.revisions(&key).unwrap(), Some(back), "the new session was ended");
    assert_eq!(it.cluster.node("h1")["down"], false);
}

#[test]
fn a_session_is_ended_after_all_if_the_agent_that_was_back_has_gone_again() {
    let mut it = Fixture::start("late end: gone again", 1);
    let key = it.key("h1");
    it.lose(0, &key);

    // Its next run has a stream, but is gone again before it has a session.
    let put = Request::Txn(key.clone());
    it.proxy.hold(put.clone());
    it.cluster.start_agent_with(0, AgentOptions::default());
    it.waits_until("the new session is held", || it.proxy.holds(&put));
    it.cluster.agents[1].process.kill().unwrap();
    it.waits_until("the new session is given up", || !it.proxy.holds(&put));
    assert_ne!(it.revisions(&key).unwrap(), None, "the lost session is there still");

    it.proxy.release();
    it.waits_until("h1 is down", || it.cluster.node("h1")["down"] == true);
    assert_eq!(it.revisions(&key).unwrap(), None);
}
