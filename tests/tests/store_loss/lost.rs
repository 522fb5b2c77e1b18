//! The store is lost: its nodes bring their claims back.

use std::fs;

use sextant_tests::{
    SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::{change_store, held, settle};

#[test]
fn i2_i6_a_lost_store_waits_for_its_nodes_and_names_the_silent_ones() {
    let mut cluster = Cluster::start("lost", 3, GUIDE);
    let before = held(&cluster);
    let routes = cluster.expected_routes(0, &[1, 2]);
    let file = cluster.lab.dir().join("before.backup").display().to_string();
    cluster.sextant(&["backup", &file]);
    cluster.agents.pop().unwrap().process.kill().unwrap();
    cluster.controller = None;
    fs::remove_file(cluster.lab.dir().join("controller-1")).unwrap();
    let controller = change_store(&mut cluster, None);
    settle(&cluster, &["h1", "h2"]);

    let now = held(&cluster);
    assert!(now.iter().all(|(name, prefix)| before[name] == *prefix), "{now:?} of {before:?}");
    let events = cluster.sextant(&["events"]);
    assert!(events.contains("h1 re-registered, ") && events.contains("pool restored, "), "{events}");
    assert_eq!(now.len(), 2, "h3 is not known yet");
    // A host that is new must wait: what it would get may be h3's.
    cluster.hosts.push(cluster.lab.host("h4").unwrap());
    cluster.start_agent(3);
    cluster.agents[2].process.wait_for_line("sextant recover --finish", 30 * SECONDS).unwrap();

    cluster.sextant(&["restore", &file]);
    settle(&cluster, &["h1", "h2"]);
    assert_eq!(held(&cluster), before, "h3 is known again");
    let recovery = cluster.lab.cli_json(&["recover"]).unwrap();
    let expected =
        serde_json::json!({ "recovering": true, "was_open": true, "silent": ["h3"], "unregistered": [] });
    assert_eq!(recovery, expected);
    let status = cluster.sextant(&["status"]);
    assert!(status.contains("node h3 has not registered since this store replaced"), "{status}");
    assert_eq!(sextant_tests::cluster::sorted(cluster.hosts[0].routes_of(66).unwrap()), routes, "I6");

    let finished = cluster.lab.cli_json(&["recover", "--finish"]).unwrap();
    assert_eq!(finished["silent"], serde_json::json!(["h3"]));
    let events = cluster.sextant(&["events", "--node", "h3"]);
    assert!(events.lines().last().unwrap().contains("h3 silent"), "{events}");
    settle(&cluster, &["h1", "h2", "h4"]);
    let after = held(&cluster);
    assert!(before.iter().all(|(name, prefix)| after[name] == *prefix), "{after:?}");
    poll("h1 routes to h4", 10 * SECONDS, || {
        let routes = cluster.hosts[0].routes_of(66)?.join("\n");
        anyhow::ensure!(routes.contains(&after["h4"]), "{routes}");
        anyhow::Ok(())
    });
    cluster.controller = Some(controller);
}

#[test]
fn i2_an_agent_that_was_frozen_during_a_restore_recovers() {
    let mut cluster = Cluster::start("asleep", 2, GUIDE);
    let file = cluster.lab.dir().join("two.backup").display().to_string();
    cluster.sextant(&["backup", &file]);
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    cluster.start_agent(2);
    settle(&cluster, &["h1", "h2", "h3"]);
    let before = held(&cluster);
    let asleep = [1, 2];
    asleep.iter().for_each(|index| cluster.agents[*index].process.freeze().unwrap());
    cluster.controller = None;
    fs::remove_file(cluster.lab.dir().join("controller-1")).unwrap();
    cluster.controller = Some(change_store(&mut cluster, None));
    cluster.sextant(&["restore", &file]);
    asleep.iter().for_each(|index| cluster.agents[*index].process.thaw().unwrap());
    settle(&cluster, &["h1", "h2", "h3"]);
    assert_eq!(held(&cluster), before, "h2 by the backup, h3 by its own word");
    cluster.sextant(&["recover", "--finish"]);
    cluster.sextant(&["node", "forget", "h2", "--force"]);
    settle(&cluster, &["h1", "h2", "h3"]);
    cluster.expect_full_mesh();
}

/// The backup has a prefix of h3 that h2 holds by now. The present one of h3 is known to its own agent only, which is stopped.
#[test]
fn i2_a_node_with_a_superseded_claim_is_named_and_its_routes_stay_until_it_is_back() {
    let mut cluster = Cluster::start("superseded", 3, GUIDE);
    let file = cluster.lab.dir().join("three.backup").display().to_string();
    cluster.sextant(&["backup", &file]);
    let former = held(&cluster)["h3"].clone();
    cluster.sextant(&["node", "reassign", "h3"]);
    settle(&cluster, &["h1", "h2", "h3"]);
    cluster.sextant(&["node", "reassign", "h2", "--prefix", &former]);
    settle(&cluster, &["h1", "h2", "h3"]);
    let before = held(&cluster);
    assert!(before["h2"] == former && before["h3"] != former, "{before:?}");
    cluster.agents.pop().unwrap().process.kill().unwrap();
    cluster.agents.iter().for_each(|agent| agent.process.freeze().unwrap());
    cluster.controller = None;
    fs::remove_file(cluster.lab.dir().join("controller-1")).unwrap();
    cluster.controller = Some(change_store(&mut cluster, None));
    cluster.sextant(&["restore", &file]);
    cluster.agents.iter().for_each(|agent| agent.process.thaw().unwrap());
    settle(&cluster, &["h1", "h2"]);

    let recovery = cluster.lab.cli_json(&["recover"]).unwrap();
    let claim = &recovery["unregistered"][0];
    assert_eq!((&claim["node"], &claim["host_prefix"]), (&"h3".into(), &former.clone().into()), "{recovery}");
    let status = cluster.sextant(&["status"]);
    assert!(status.contains(&format!("node h3, {former}")), "{status}");
    let refused = cluster.lab.cli(&["recover", "--finish"]).unwrap();
    assert!(refused.code == 4 && refused.stderr.contains("--confirm 1"), "{refused:?}");
    let routes = cluster.hosts[0].routes_of(66).unwrap().join("\n");
    assert!(routes.contains(&before["h3"]), "I6: {routes}");

    cluster.start_agent(2);
    settle(&cluster, &["h1", "h2", "h3"]);
    assert_eq!(held(&cluster), before);
    cluster.sextant(&["recover", "--finish"]);
    cluster.expect_full_mesh();
}
