//! All of etcd's content goes while agents run.

use sextant_tests::SECONDS;

use crate::{
    etcd::Cluster,
    watched::{LONG, Watched},
};

#[test]
fn i6_a_wiped_store_deletes_nothing_and_gets_back_what_was_held() {
    let mut cluster = Cluster::start("wiped", 3);
    let watched = Watched::begin(&cluster);
    let prefixes = |cluster: &Cluster| {
        let nodes = cluster.nodes().unwrap();
        let mut held: Vec<_> =
            nodes.iter().map(|node| (node["name"].to_string(), node["prefix"].to_string())).collect();
        held.sort();
        held
    };
    let before = prefixes(&cluster);
    cluster.etcd.wipe(&cluster.lab).unwrap();
    for controller in &cluster.controllers {
        let status = controller.process.wait(20 * SECONDS).unwrap();
        let log = controller.process.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("meta/store is gone: the store was wiped or replaced"), "{log}");
    }
    watched.passes(LONG);
    watched.routes_stay();
    // As systemd does.
    cluster.controllers.clear();
    (1..=2).for_each(|number| cluster.start_controller(number));
    cluster.settle();
    assert_eq!(prefixes(&cluster), before, "the same prefixes, out of a pool that came back with them");
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}
