//! The store is lost: its nodes bring the prefixes of both pools back.

use std::fs;

use sextant_tests::ControllerOptions;

use crate::bed::Bed;

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
