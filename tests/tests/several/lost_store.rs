//! The store is lost: its nodes bring the prefixes of both pools back.

use std::{collections::BTreeMap, fs};

use sextant_proto::Prefix;
use sextant_tests::{
    ControllerOptions, SECONDS,
    cluster::{Cluster, GUIDE, PoolArgs},
    poll,
};

use crate::bed::{Bed, Held, ULA};

#[test]
fn i2_a_lost_store_gets_both_prefixes_of_each_node_back_and_no_packet_is_lost() {
    let mut bed = Bed::start("lost store", 3);
    let before = bed.held();
    let streams = bed.streams();
    bed.cluster.controller = None;
    fs::remove_file(bed.cluster.lab.dir().join("controller-1")).unwrap();
    bed.cluster.start_controller(ControllerOptions::default());
    bed.settle();
    assert_eq!(bed.held(), before);
    bed.expect_routes(&before);

    let finished = bed.cluster.lab.cli_json(&["recover", "--finish"]).unwrap();
    assert_eq!(finished["silent"], serde_json::json!([]));
    bed.settle();
    bed.expect_routes(&before);
    streams.nothing_lost();
}

/// The operator adds a pool again before any node comes back, under another name.
#[test]
fn i2_a_pool_with_another_name_in_the_next_store_gives_each_node_its_prefix_of_it() {
    let mut bed = Bed::start("renamed pool", 2);
    let before = bed.held();
    restart_empty(&mut bed, |cluster| cluster.add_another_pool("xmain", GUIDE));
    for name in before.keys() {
        poll(&format!("{name} is ready in both pools"), 30 * SECONDS, || {
            let mut pools = bed.pools_of(name, "ready");
            pools.sort();
            if pools == ["ula", "xmain"] { Ok(()) } else { Err(format!("{}", bed.cluster.node(name))) }
        });
    }
    let renamed = |of: &BTreeMap<String, Prefix>| {
        let new = |(pool, prefix): (&String, &Prefix)| (pool.replace("main", "xmain"), *prefix);
        of.iter().map(new).collect::<BTreeMap<_, _>>()
    };
    let expected: Held = before.iter().map(|(name, of)| (name.clone(), renamed(of))).collect();
    assert_eq!(bed.held(), expected);
    bed.expect_routes(&before);
    bed.cluster.sextant(&["recover", "--finish"]);
    bed.cluster.sextant(&["wait", "--timeout", "20s"]);
    assert_eq!(bed.held(), expected);
    bed.expect_routes(&before);
    // The settings do not name the pool, which is reported with the fix.
    poll("status says so", 20 * SECONDS, || {
        let status = bed.cluster.lab.cli(&["status"])?.stdout;
        anyhow::ensure!(status.contains("--pool does not name pool xmain"), "{status}");
        anyhow::Ok(())
    });
}

/// The operator adds the pools again with each other's names.
#[test]
fn i2_pools_with_exchanged_names_in_the_next_store_give_each_node_both_its_prefixes() {
    let mut bed = Bed::start("exchanged pools", 2);
    let before = bed.held();
    restart_empty(&mut bed, |cluster| {
        cluster.add_another_pool("ula", GUIDE);
        cluster.add_another_pool("main", ULA);
    });
    for name in before.keys() {
        poll(&format!("{name} is ready in both pools"), 30 * SECONDS, || {
            let mut pools = bed.pools_of(name, "ready");
            pools.sort();
            if pools == ["main", "ula"] { Ok(()) } else { Err(format!("{}", bed.cluster.node(name))) }
        });
    }
    let exchanged = |of: &BTreeMap<String, Prefix>| {
        BTreeMap::from([("main".to_owned(), of["ula"]), ("ula".to_owned(), of["main"])])
    };
    let expected: Held = before.iter().map(|(name, of)| (name.clone(), exchanged(of))).collect();
    assert_eq!(bed.held(), expected);
    bed.cluster.sextant(&["recover", "--finish"]);
    bed.cluster.sextant(&["wait", "--timeout", "20s"]);
    assert_eq!(bed.held(), expected);
    bed.expect_routes(&before);
}

/// A pool of the new store has a part of the lost pool, so that cannot be restored.
#[test]
fn a_held_claim_that_is_refused_is_listed_and_ends_only_if_its_number_is_confirmed() {
    let mut bed = Bed::start("overlapping pool", 2);
    let before = bed.held();
    let part = PoolArgs { prefix: "fd00:5e00:ff:fff0::/60", host_len: "64", container_len: "80" };
    restart_empty(&mut bed, |cluster| cluster.add_another_pool("x", part));
    expect_listed(&bed, &before);
    // Another process of the controller learns of them from the agents.
    let earlier = bed.cluster.controller.take().unwrap();
    earlier.process.terminate(10 * SECONDS).unwrap();
    bed.cluster.start_controller(ControllerOptions::default());
    // It does not close the window before it has.
    let refused = bed.cluster.lab.cli(&["recover", "--finish"]).unwrap();
    assert!(refused.code == 4 && refused.stderr.contains("--confirm 2"), "{refused:?}");
    expect_listed(&bed, &before);
    let lab = &bed.cluster.lab;
    let text = lab.cli(&["recover"]).unwrap().stdout;
    assert!(text.contains("pool x") && text.contains("sextant pool remove x"), "{text}");
    poll("status has the reason", 20 * SECONDS, || {
        let status = lab.cli(&["status"])?.stdout;
        anyhow::ensure!(status.contains("sextant pool remove x"), "{status}");
        anyhow::Ok(())
    });
    for unconfirmed in [&["recover", "--finish"][..], &["recover", "--finish", "--confirm", "1"]] {
        let refused = lab.cli(unconfirmed).unwrap();
        assert!(refused.code == 4 && refused.stderr.contains("--confirm 2"), "{refused:?}");
    }
    bed.cluster.sextant(&["pool", "remove", "x"]);
    bed.settle();
    assert_eq!(bed.held(), before);
    assert_eq!(lab.cli_json(&["recover"]).unwrap()["unregistered"], serde_json::json!([]));
    bed.cluster.sextant(&["recover", "--finish"]);
    bed.cluster.sextant(&["wait", "--timeout", "20s"]);
    bed.expect_routes(&before);
}

/// Waits until the claims of pool ula are listed as refused.
fn expect_listed(bed: &Bed, held: &Held) {
    poll("both claims are listed", 30 * SECONDS, || {
        let recovery = bed.cluster.lab.cli_json(&["recover"])?;
        let claims = recovery["unregistered"].as_array().into_iter().flatten();
        let mut listed: Vec<_> =
            claims.map(|it| format!("{} {}", it["node"], it["host_prefix"]).replace('"', "")).collect();
        listed.sort();
        let expected: Vec<_> = held.iter().map(|(name, of)| format!("{name} {}", of["ula"])).collect();
        anyhow::ensure!(listed == expected, "{recovery}");
        anyhow::Ok(())
    });
}

/// Replaces the store by a new one, with what `prepare` does before an agent registers.
fn restart_empty(bed: &mut Bed, prepare: impl FnOnce(&Cluster)) {
    bed.cluster.agents.iter().for_each(|agent| agent.process.freeze().unwrap());
    bed.cluster.controller = None;
    fs::remove_file(bed.cluster.lab.dir().join("controller-1")).unwrap();
    bed.cluster.start_controller(ControllerOptions::default());
    prepare(&bed.cluster);
    bed.cluster.agents.iter().for_each(|agent| agent.process.thaw().unwrap());
}
