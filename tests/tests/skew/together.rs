//! Old and new daemons in one cluster.

use sextant_tests::{Build, SECONDS, poll};

use crate::fleet::{Fleet, Watched};

const BOTH: [Build; 2] = [Build::Present, Build::Previous];

/// Hosts join, leave, come back, and are halted; each agent's kernel follows, and each `sextant` can tell.
fn does_its_job(fleet: &Fleet) {
    let cluster = &fleet.cluster;
    fleet.settle_by(1);
    cluster.expect_full_mesh();
    for build in BOTH {
        for number in 1..=(1 + u16::from(fleet.second.is_some())) {
            let reported =
                |args: &[&str]| cluster.lab.cli_built(build, number, args).unwrap().succeeded().unwrap();
            reported(&["wait", "--timeout", "20s"]);
            let nodes = reported(&["node", "list"]).stdout;
            assert!(cluster.hosts.iter().all(|host| nodes.contains(host.name())), "{build:?}: {nodes}");
        }
    }
    let all: Vec<_> = (0..cluster.hosts.len()).collect();
    cluster.sextant(&["pause"]);
    let draining = cluster.lab.cli_json(&["node", "drain", "h1", "--no-wait"]).unwrap();
    let revision = draining["revision"].to_string();
    let halted = cluster.lab.cli(&["wait", "--revision", &revision, "--timeout", "1s"]).unwrap();
    assert_eq!(halted.code, 6, "{halted:?}");
    all[1..].iter().for_each(|&index| cluster.expect_routes(index, &all));
    cluster.sextant(&["resume"]);
    poll("h1 is drained", 20 * SECONDS, || {
        let node = cluster.node("h1");
        anyhow::ensure!(node["state"] == "drained", "{node}");
        Ok(())
    });
    all[1..].iter().for_each(|&index| cluster.expect_routes(index, &all[1..]));
    cluster.sextant(&["node", "undrain", "h1", "--timeout", "20s"]);
    fleet.settle_by(1);
    cluster.expect_full_mesh();
}

fn on_one_store(test: &str, controller: Build, agents: Build) {
    let mut fleet = Fleet::embedded(test, 3, controller);
    fleet.start_agents(&[agents; 3]);
    does_its_job(&fleet);
}

#[test]
fn old_agents_work_with_a_new_controller() {
    on_one_store("old agents", Build::Present, Build::Previous);
}

#[test]
fn new_agents_work_with_an_old_controller() {
    on_one_store("old controller", Build::Previous, Build::Present);
}

#[test]
fn old_and_new_agents_move_between_an_old_and_a_new_controller() {
    let mut fleet = Fleet::on_etcd("mixed", 4, BOTH);
    fleet.start_agents(&[BOTH, BOTH].concat());
    does_its_job(&fleet);
    let watched = Watched::begin(&fleet.cluster);
    let claims = fleet.claims();
    fleet.cluster.controller = None;
    fleet.settle_by(2);
    fleet.start_first(Build::Present);
    fleet.second = None;
    fleet.settle_by(1);
    // The last of the old ones is upgraded.
    fleet.start_second(Build::Present);
    fleet.settle_by(2);
    assert_eq!(fleet.claims(), claims);
    watched.nothing_happened();
    fleet.cluster.expect_full_mesh();
}
