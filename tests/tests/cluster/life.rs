//! A node is forgotten and returns.

use sextant_tests::{SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

#[test]
fn i3_a_forgotten_host_removes_its_routes_and_claims_again() {
    let mut cluster = Cluster::start("forget", 2, GUIDE);
    let up = cluster.lab.cli(&["node", "forget", "h2"]).unwrap();
    assert_eq!(up.code, 4, "a node that is up is not forgotten: {up:?}");
    assert!(up.stderr.contains("h2 is up"), "{up:?}");
    cluster.controller = None;
    let args = ["--down-after", "1"].map(str::to_owned).to_vec();
    cluster.start_controller(sextant_tests::ControllerOptions { args, ..Default::default() });
    let prefix = cluster.prefix("h2");
    cluster.agents[1].process.kill().unwrap();
    poll("h2 is forgotten", 20 * SECONDS, || {
        let out = cluster.lab.cli(&["node", "forget", "h2", "--force"])?;
        anyhow::ensure!(out.code == 0, "{out:?}");
        anyhow::Ok(())
    });
    let old_routes = cluster.expected_routes(0, &[]);
    poll("h1 routes to it no longer", 5 * SECONDS, || {
        let routes = crate::cluster::sorted(cluster.hosts[0].routes_of(66).unwrap());
        if routes == old_routes { Ok(()) } else { Err(format!("{routes:?}")) }
    });
    // Somebody else has its prefix by now: `2001:db8:…` of a name that leads to the same place is taken by hand.
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    cluster.agents.truncate(1);
    cluster.start_agent(1);
    cluster.agents[1].process.wait_for_line("removing its routes and addresses", 10 * SECONDS).unwrap();
    cluster.settle();
    assert_eq!(cluster.prefix("h2"), prefix, "the same name leads to the same free prefix");
    cluster.hosts.truncate(2);
    cluster.expect_full_mesh();
}
