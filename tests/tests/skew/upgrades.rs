//! Upgrades: new daemons start with the state of old ones.

use sextant_tests::{Build, SECONDS, bin, poll};

use crate::fleet::{Fleet, Watched};

/// Two hosts with agents and a controller, all old, and a third host without an agent.
fn old(test: &str) -> Fleet {
    let mut fleet = Fleet::embedded(test, 3, Build::Previous);
    fleet.start_agents(&[Build::Previous; 2]);
    fleet.settle_by(1);
    fleet
}

/// An old cluster is upgraded by `steps`: no route changes, nothing is lost, all keep their prefixes, and all goes on.
fn upgrade(test: &str, steps: [fn(&mut Fleet); 2]) {
    let mut fleet = old(test);
    let claims = fleet.claims();
    let watched = Watched::begin(&fleet.cluster);
    for step in steps {
        step(&mut fleet);
        fleet.settle_by(1);
        assert_eq!(fleet.claims(), claims);
    }
    watched.nothing_happened();
    fleet.start_agents(&[Build::Present]);
    fleet.settle_by(1);
    fleet.cluster.expect_full_mesh();
    the_old_ones_changes_are_known(&mut fleet);
}

/// What the old agent of the first host changed there, the new one can undo.
fn the_old_ones_changes_are_known(fleet: &mut Fleet) {
    fleet.cluster.agents.clear();
    let (lab, host) = (&fleet.cluster.lab, &fleet.cluster.hosts[0]);
    let (agent, state) = (bin("sextant-agent").unwrap(), lab.state_dir(host));
    let args = [agent.as_os_str(), "cleanup".as_ref(), "--state-dir".as_ref(), state.as_os_str()];
    let done = String::from_utf8(host.run(&args).unwrap().stdout).unwrap();
    assert!(done.contains("net/ipv6/conf/all/forwarding: 1 back to 0"), "{done}");
}

fn controller(fleet: &mut Fleet) {
    fleet.cluster.controller = None;
    fleet.start_first(Build::Present);
}

fn agents(fleet: &mut Fleet) {
    fleet.replace_agents(Build::Present);
}

#[test]
fn the_controller_can_be_upgraded_before_the_agents() {
    upgrade("controller first", [controller, agents]);
}

#[test]
fn the_agents_can_be_upgraded_before_the_controller() {
    upgrade("agents first", [agents, controller]);
}

#[test]
fn all_can_be_upgraded_at_once_and_a_new_host_reads_the_old_store() {
    let mut fleet = old("all at once");
    let claims = fleet.claims();
    let watched = Watched::begin(&fleet.cluster);
    fleet.cluster.agents.clear();
    controller(&mut fleet);
    fleet.start_agent(2, Build::Present);
    poll("h3 is ready", 20 * SECONDS, || {
        let node = fleet.cluster.node("h3");
        anyhow::ensure!(node["state"] == "ready", "{node}");
        Ok(())
    });
    fleet.cluster.expect_routes(2, &[0, 1, 2]);
    watched.nothing_happened();
    [0, 1].into_iter().for_each(|index| fleet.start_agent(index, Build::Present));
    fleet.settle_by(1);
    assert!(claims.iter().all(|claim| fleet.claims().contains(claim)), "{claims:?}: {:?}", fleet.claims());
    fleet.cluster.expect_full_mesh();
}
