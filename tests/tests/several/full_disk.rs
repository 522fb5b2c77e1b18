//! The state directory of a host is full: what cannot be stored of one claim touches no other.

use std::{fs, os::unix::fs::symlink};

use serde_json::Value;
use sextant_tests::{SECONDS, SmallDisk, poll};

use crate::bed::{Bed, pools};

#[test]
fn i10_a_claim_that_cannot_be_stored_keeps_no_other_from_being_ready() {
    let mut bed = Bed::start("full state directory", 2);
    let before = bed.held();
    // The state directory of h2 is on a disk of its own.
    bed.cluster.agents.pop().unwrap().process.terminate(10 * SECONDS).unwrap();
    let disk = SmallDisk::mount(&bed.cluster.lab, 1).unwrap();
    let directory = bed.cluster.lab.state_dir(&bed.cluster.hosts[1]);
    fs::create_dir(disk.path().join("state")).unwrap();
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), disk.path().join("state").join(entry.file_name())).unwrap();
    }
    fs::remove_dir_all(&directory).unwrap();
    symlink(disk.path().join("state"), &directory).unwrap();
    bed.cluster.start_agent_with(1, pools("main,ula"));
    bed.settle();
    assert_eq!(bed.held(), before);

    disk.fill().unwrap();
    let moved = bed.cluster.lab.cli(&["node", "reassign", "h2", "--pool", "ula", "--timeout", "5s"]).unwrap();
    let named = bed.prefix("h2", "ula");
    assert_ne!(named, before["h2"]["ula"], "{moved:?}");
    bed.wait_pools("h2", &["main"]);
    assert_eq!(bed.prefix("h2", "main"), before["h2"]["main"]);
    poll("status says why", 20 * SECONDS, || {
        let status = bed.cluster.lab.cli(&["status"])?.stdout;
        // The claim fits into the file that it replaces, or does not; the record of its address does not.
        let reasons = ["no prefix of pool ula: ", &format!("host prefix {named} of pool ula is not used: ")];
        let has_one = reasons.iter().any(|reason| status.contains(reason));
        anyhow::ensure!(has_one && status.contains("No space left on device"), "{status}");
        anyhow::Ok(())
    });
    for (from, to) in [("h1", "h2"), ("h2", "h1")] {
        let trace = bed.cluster.lab.cli(&["-o", "json", "trace", from, to]).unwrap();
        let value: Value = serde_json::from_str(&trace.stdout).unwrap();
        let directions = value["directions"].as_array().unwrap();
        let of_ula: Vec<_> = directions.iter().filter(|it| it["pool"] == "ula").collect();
        assert_eq!(of_ula.len(), 2, "{value:#}");
        for direction in of_ula {
            let text = direction.to_string();
            let fix = format!("free space on its disk (df {}", directory.display());
            let is_whole =
                direction["at"] == "h2" && text.contains("No space left on device") && text.contains(&fix);
            assert!(direction["verdict"] == "broken" && is_whole, "{direction:#}");
            assert!(!text.contains("ip -6 addr add"), "{direction:#}");
        }
    }
    disk.empty().unwrap();
    bed.wait_pools("h2", &["main", "ula"]);
    assert_eq!((bed.prefix("h2", "main"), bed.prefix("h2", "ula")), (before["h2"]["main"], named));
    bed.settle();
    bed.expect_routes(&bed.held());
}
