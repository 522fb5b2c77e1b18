//! A move from one store to another with running agents.

use sextant_tests::{
    RouteMonitor,
    cluster::{Cluster, GUIDE},
};

use crate::{change_store, held, settle};

#[test]
fn i2_moving_from_embedded_to_etcd_and_back_changes_no_route() {
    let mut cluster = Cluster::start("moving", 3, GUIDE);
    let names = ["h1", "h2", "h3"];
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let quiet = || monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
    let before = held(&cluster);
    let etcd = cluster.lab.etcd(1, &[]).unwrap();
    let embedded = format!("embedded:{}", cluster.lab.dir().join("another").display());
    for (number, store) in [etcd.store(), embedded].into_iter().enumerate() {
        let incarnation =
            |cluster: &Cluster| cluster.lab.cli_json(&["status"]).unwrap()["incarnation"].clone();
        let old = incarnation(&cluster);
        let file = cluster.lab.dir().join(format!("{number}.backup")).display().to_string();
        let written = cluster.lab.cli_json(&["backup", &file]).unwrap();
        assert_eq!(written["claims"], 3, "{written}");
        // The agents find it at once, and register what they hold: the restore finds their claims there.
        let controller = change_store(&mut cluster, Some(store));
        let restored = cluster.lab.cli_json(&["restore", &file]).unwrap();
        settle(&cluster, &names);
        assert_eq!(held(&cluster), before);
        assert_eq!(incarnation(&cluster), restored["incarnation"]);
        assert_ne!(incarnation(&cluster), old);
        let events = cluster.sextant(&["events"]);
        assert!(events.contains("restored, ") && events.contains("backup of "), "{events}");
        quiet();
        cluster.controller = Some(controller);
    }
    let finished = cluster.lab.cli_json(&["recover", "--finish"]).unwrap();
    assert_eq!((&finished["was_open"], &finished["silent"]), (&true.into(), &serde_json::json!([])));
    cluster.sextant(&["wait", "--timeout", "60s"]);
    quiet();
    cluster.expect_full_mesh();
}
