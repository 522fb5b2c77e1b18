//! What fires in a cluster in which something is wrong, and what does not while it is upgraded.

use std::{collections::BTreeSet, fs};

use sextant_tests::{AgentOptions, ControllerOptions, SECONDS, poll};

use crate::{
    cluster::{Cluster, GUIDE},
    prometheus::{Prometheus, fired, firing},
};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A cluster of three hosts whose metrics are served where Prometheus reaches them.
struct Watched {
    cluster: Cluster,
    _prometheus: Prometheus,
}

impl Watched {
    fn start(test: &str) -> Self {
        let mut cluster = Cluster::with_short_down_after(test, 3, GUIDE);
        (0..3).for_each(|index| start_agent(&mut cluster, index));
        cluster.settle();
        let prometheus = Prometheus::start(&cluster.lab, &cluster.hosts, "[2001:db8::c:1]:7301");
        Self { cluster, _prometheus: prometheus }
    }

    /// Waits until exactly these alerts fire.
    fn expect(&self, names: &[&str]) {
        poll(&format!("{names:?} fire"), 40 * SECONDS, || {
            let now = firing(&self.cluster.lab)?;
            anyhow::ensure!(now == set(names), "{now:?}");
            Ok(())
        });
    }
}

fn start_agent(cluster: &mut Cluster, index: usize) {
    let http = format!("[{}]:7302", cluster.hosts[index].address());
    cluster.start_agent_with(
        index,
        AgentOptions { args: vec!["--http".into(), http], ..AgentOptions::default() },
    );
}

#[test]
fn nothing_fires_while_all_is_upgraded_host_by_host() {
    let mut watched = Watched::start("alerts upgrade");
    let cluster = &mut watched.cluster;
    cluster.controller.take().unwrap().process.terminate(10 * SECONDS).unwrap();
    let args = ["--down-after", "1"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    cluster.settle();
    for index in 0..3 {
        cluster.agents[index].process.terminate(10 * SECONDS).unwrap();
        start_agent(cluster, index);
        let replaced = cluster.agents.pop().unwrap();
        cluster.agents[index] = replaced;
        cluster.settle();
    }
    // For longer than the alerts that a restart could cause wait.
    std::thread::sleep(12 * SECONDS);
    assert_eq!(fired(&cluster.lab), BTreeSet::new());
}

#[test]
fn what_is_wrong_fires_and_ends() {
    let watched = Watched::start("alerts");
    let (prefix, store) = (watched.cluster.prefix("h2"), watched.cluster.lab.dir().join("controller-1"));
    watched.expect(&[]);

    // A route of ours that the kernel refuses, since another process has its place.
    let taken = format!("{prefix} via 2001:db8::99 dev eth0 proto static metric 512");
    watched.cluster.hosts[0].ip(&format!("-6 route replace {taken}")).unwrap();
    poll("the refused route fires", 40 * SECONDS, || {
        let now = firing(&watched.cluster.lab)?;
        anyhow::ensure!(now.contains("SextantRoutesFailed"), "{now:?}");
        Ok(())
    });
    watched.cluster.hosts[0].ip(&format!("-6 route del {taken}")).unwrap();
    watched.expect(&[]);

    let away = store.with_extension("away");
    fs::rename(&store, &away).unwrap();
    watched.expect(&["SextantStoreUnreachable"]);
    fs::rename(&away, &store).unwrap();
    watched.expect(&[]);

    watched.cluster.agents[2].process.kill().unwrap();
    watched.expect(&["SextantAgentDown", "SextantHostWithoutAgent"]);
    watched.cluster.hosts[2].power_off().unwrap();
    watched.expect(&["SextantAgentDown", "SextantHostDead"]);
}
