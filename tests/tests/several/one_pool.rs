//! The end of the claims in one pool; those in the other one stay.

use sextant_tests::{BRIDGE, SECONDS, ping_matrix, poll};

use crate::bed::Bed;

#[test]
fn all_containers_reach_each_other_in_both_pools_and_the_end_of_a_claim_in_one_does_not_touch_the_other() {
    let bed = Bed::start("two pools", 5);
    let before = bed.held();
    bed.expect_routes(&before);
    let containers: Vec<_> =
        (0..5).flat_map(|index| ["a", "b"].map(|name| bed.container(index, name))).collect();
    let (main, ula): (Vec<_>, Vec<_>) = containers.into_iter().unzip();
    for reachable in [main, ula] {
        poll("each container reaches each other", 20 * SECONDS, || {
            let failures = ping_matrix(&reachable)?;
            anyhow::ensure!(failures.is_empty(), "{failures}");
            anyhow::Ok(())
        });
    }
    let mut streams = bed.streams();
    let ended = streams.take("ula h1 h2");

    bed.cluster.sextant(&["pool", "drain", "ula"]);
    bed.cluster.sextant(&["node", "forget", "h2", "--pool", "ula", "--force"]);
    let mut without = before.clone();
    let lost = without.get_mut("h2").unwrap().remove("ula").unwrap();
    bed.expect_routes(&without);
    poll("h2's bridge has no address of ula", 10 * SECONDS, || {
        let addresses = bed.cluster.hosts[1].addresses_of(BRIDGE)?;
        anyhow::ensure!(addresses.iter().all(|(address, _)| !lost.contains(*address)), "{addresses:?}");
        anyhow::Ok(())
    });
    bed.wait_pools("h2", &["main"]);
    assert_eq!(bed.held(), without);

    bed.cluster.sextant(&["pool", "undrain", "ula"]);
    bed.settle();
    assert_eq!(bed.held(), before, "the prefix that was quarantined comes first");
    bed.expect_routes(&before);
    ended.flows(50, 10 * SECONDS).unwrap();

    let epoch = |bed: &Bed| bed.cluster.node("h2")["claims"][1]["epoch"].clone();
    let first = epoch(&bed);
    bed.cluster.sextant(&["node", "forget", "h2", "--pool", "ula", "--force"]);
    poll("h2 claims again", 20 * SECONDS, || {
        let now = epoch(&bed);
        anyhow::ensure!(!now.is_null() && now != first, "{now}");
        anyhow::Ok(())
    });
    bed.settle();
    assert_eq!(bed.held(), before);
    bed.expect_routes(&before);
    ended.flows(50, 10 * SECONDS).unwrap();
    streams.nothing_lost();
}
