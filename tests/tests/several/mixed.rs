//! A state directory with files of two nodes.

use std::fs;

use sextant_tests::{SECONDS, poll};

use crate::bed::{Bed, pools};

/// The file with the second claim is that of another node, as after a restore that took it from the wrong backup.
#[test]
fn i3_the_second_claim_of_another_node_is_not_used() {
    let mut bed = Bed::start("mixed state", 2);
    let before = bed.held();
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let [own, other] = [0, 1].map(|index| bed.cluster.lab.state_dir(&bed.cluster.hosts[index]));
    fs::copy(other.join("more-claims.json"), own.join("more-claims.json")).unwrap();
    bed.cluster.start_agent_with(0, pools("main,ula"));
    bed.settle();
    assert_eq!(bed.held(), before);
    bed.expect_routes(&before);
    let foreign = before["h2"]["ula"];
    poll("h1 has no address of h2's prefix", 10 * SECONDS, || {
        let addresses = bed.cluster.hosts[0].ip("-6 addr show")?;
        anyhow::ensure!(!addresses.contains(&foreign.addr().to_string()), "{addresses}");
        anyhow::Ok(())
    });
}
