//! The store is lost: its nodes bring the prefixes of both pools back.

use std::{collections::BTreeMap, fs};

use sextant_proto::Prefix;
use sextant_tests::{ControllerOptions, SECONDS, cluster::GUIDE, poll};

use crate::bed::{Bed, Held};

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
    bed.cluster.agents.iter().for_each(|agent| agent.process.freeze().unwrap());
    bed.cluster.controller = None;
    fs::remove_file(bed.cluster.lab.dir().join("controller-1")).unwrap();
    bed.cluster.start_controller(ControllerOptions::default());
    bed.cluster.add_another_pool("xmain", GUIDE);
    bed.cluster.agents.iter().for_each(|agent| agent.process.thaw().unwrap());
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
