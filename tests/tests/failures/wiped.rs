//! etcd loses all data while agents run.

use sextant_tests::SECONDS;

use crate::{
    etcd::Cluster,
    watched::{LONG, Watched},
};

#[test]
fn i6_a_wiped_store_deletes_no_route_and_recovers_the_claims() {
    let mut cluster = Cluster::start("wiped", 3);
    let watched = Watched::begin(&cluster);
    let before = cluster.prefixes();
    cluster.etcd.wipe(&cluster.lab).unwrap();
    controllers_end(&cluster);
    watched.passes(LONG);
    watched.routes_stay();
    // systemd restarts them.
    cluster.controllers.clear();
    (1..=2).for_each(|number| cluster.start_controller(number));
    cluster.settle();
    assert_eq!(cluster.prefixes(), before, "the same prefixes, out of a pool that came back with them");
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

/// The running controllers know the store from before, and the agents ask them first.
#[test]
fn i2_agents_that_restart_while_etcd_is_replaced_by_an_empty_one_keep_their_prefixes() {
    let mut cluster = Cluster::start("replaced", 3);
    let watched = Watched::begin(&cluster);
    let before = cluster.prefixes();
    cluster.etcd.lose_data(&cluster.lab).unwrap();
    cluster.agents.clear();
    (0..3).for_each(|index| cluster.start_agent(index));
    cluster.etcd.restart(&cluster.lab).unwrap();
    controllers_end(&cluster);
    for agent in &cluster.agents {
        let log = agent.process.log();
        assert!(!log.contains("claim lost"), "an agent was fenced from a store that is gone:\n{log}");
    }
    cluster.controllers.clear();
    (1..=2).for_each(|number| cluster.start_controller(number));
    cluster.settle();
    assert_eq!(cluster.prefixes(), before);
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}

fn controllers_end(cluster: &Cluster) {
    for controller in &cluster.controllers {
        let status = controller.process.wait(40 * SECONDS).unwrap();
        let log = controller.process.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("the store was wiped or replaced"), "{log}");
    }
}
