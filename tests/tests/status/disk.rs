//! A full disk under the embedded store: reported while it lasts; deletes still work.

use std::sync::atomic::{AtomicUsize, Ordering};

use sextant_tests::{CliOutput, ControllerOptions, SECONDS, SmallDisk, poll};

use crate::cluster::{Cluster, GUIDE};

/// The most octets of a reason.
const MOST: usize = 512;

/// A cluster whose store is on `disk`.
fn on_disk(test: &str) -> (Cluster, SmallDisk) {
    let mut cluster = Cluster::without_agents(test, 1, GUIDE);
    let disk = SmallDisk::mount(&cluster.lab, 6).unwrap();
    cluster.controller = None;
    let args = ["--down-after", "1"].map(str::to_owned).to_vec();
    let store = Some(format!("embedded:{}", disk.path().join("store").display()));
    cluster.start_controller(ControllerOptions { store, args, ..ControllerOptions::default() });
    cluster.add_pool();
    (cluster, disk)
}

fn reservation(number: usize) -> String {
    format!("2001:db8:80ff:{number:x}::/64")
}

/// Reserves prefixes from this number on side by side, with a reason of so many octets, until the store refuses one; the refusal.
fn reserve_until_refused(cluster: &Cluster, reserved: &mut usize, from: usize, octets: usize) -> CliOutput {
    let reason = "r".repeat(octets);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while next.load(Ordering::Relaxed) < 8000 {
            let number = from + next.fetch_add(1, Ordering::Relaxed);
            let out = cluster.lab.cli(&["reserve", &reservation(number), "--reason", &reason]).unwrap();
            if out.stderr.contains("collided with concurrent changes") {
                continue;
            }
            if out.code != 0 {
                next.store(usize::MAX / 2, Ordering::Relaxed);
                return Some(out);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        None
    };
    let refusals: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
    });
    *reserved += done.into_inner();
    let refused = refusals.into_iter().next();
    refused.unwrap_or_else(|| panic!("{reserved} reservations fit, and the disk is still not full"))
}

#[test]
fn a_full_disk_is_reported_while_it_lasts_and_permits_deletes() {
    let (mut cluster, disk) = on_disk("full disk");
    cluster.start_agent(0);
    cluster.settle();
    cluster.sextant(&["pool", "add", "other", "2001:db8:7::/48", "--host-len", "64"]);
    cluster.agents.clear();
    poll("the agent is gone", 20 * SECONDS, || {
        let node = cluster.node("h1");
        if node["down"] == true { Ok(()) } else { Err(node.to_string()) }
    });
    let mut reserved = 0;
    for _ in 0..20 {
        cluster.sextant(&["reserve", &reservation(reserved)]);
        reserved += 1;
    }
    let http = |path: &str| cluster.controller.as_ref().unwrap().http(path).unwrap();
    assert_eq!(http("/readyz").0, 200);

    disk.fill().unwrap();
    for (from, octets) in [(1000, MOST), (20_000, 100)] {
        let refused = reserve_until_refused(&cluster, &mut reserved, from, octets);
        assert!(refused.code == 5 && refused.stderr.contains("No space left"), "{refused:?}");
    }
    let reported = |context: &str| {
        let status = cluster.lab.cli(&["-o", "json", "status"]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let first = &json["troubles"][0];
        assert_eq!(
            (&first["kind"], &first["what"]),
            (&"controller_problem".into(), &"store-refuses-changes".into()),
            "{context}: {json}"
        );
        assert!(status.code == 5 && json["well"] == false && json["stale"] == false, "{context}: {json}");
        let text = cluster.lab.cli(&["status"]).unwrap().stdout;
        let line = text.lines().nth(1).unwrap();
        let words = ["(queried): store \"", "cannot grow", "MiB more", "free space", "(since "];
        assert!(words.iter().all(|word| line.contains(word)), "{context}: {text}");
        poll("the controller is not ready", 5 * SECONDS, || {
            let (code, body) = http("/readyz");
            if code == 503 && body.contains("cannot grow") { Ok(()) } else { Err(format!("{code}: {body}")) }
        });
    };
    reported("full");

    for number in 0..12 {
        cluster.sextant(&["unreserve", &reservation(number)]);
    }
    assert!(cluster.sextant(&["node", "forget", "h1"]).contains("is no longer claimed"));
    cluster.sextant(&["pool", "remove", "other"]);
    for number in 12..20 {
        cluster.sextant(&["unreserve", &reservation(number)]);
    }
    reported("after deletes");
    let kept = cluster.lab.cli_json(&["reservations"]).unwrap().as_array().unwrap().len();
    assert_eq!(kept, reserved - 20, "what was acknowledged is there, what was deleted is not");

    disk.empty().unwrap();
    poll("the cluster is healthy", 10 * SECONDS, || {
        let status = cluster.lab.cli(&["status"])?;
        let (code, body) = http("/readyz");
        anyhow::ensure!(
            status.code == 0 && status.stdout.starts_with("All is well: ") && code == 200,
            "{code}: {body}; {status:?}"
        );
        anyhow::Ok(())
    });
    cluster.sextant(&["reserve", &reservation(0), "--reason", &"r".repeat(MOST)]);
}
