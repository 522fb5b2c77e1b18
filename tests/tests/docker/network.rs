//! `[docker] mode = "network"`.

use nix::sys::signal::Signal;
use sextant_tests::{SECONDS, expect_text, poll};

use crate::bed::{Bed, NETWORK};

#[test]
fn containers_of_all_hosts_reach_each_other_by_ping_and_tcp_with_their_own_addresses() {
    let bed = Bed::start("docker network", 3, &[]);
    let addresses: Vec<_> = bed
        .engines
        .iter()
        .map(|engine| engine.container("web", &["--network", "sextant"]).unwrap())
        .collect();
    bed.engines.iter().for_each(|engine| engine.serve("web", 8000).unwrap());
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            bed.pings(from, "web", &addresses[to]);
            expect_text(&format!("TCP from {from} to {to}"), 10 * SECONDS, &addresses[from], || {
                bed.engines[from].ask("web", &addresses[to], 8000)
            });
        }
    }
    bed.status_is_silent();
}

#[test]
fn the_network_is_there_again_after_it_was_removed_and_after_the_engine_was_away() {
    let mut bed = Bed::start("docker repaired", 1, &[]);
    bed.engines[0].run(&["network", "rm", "sextant"]).unwrap();
    bed.has_network(0);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        bed.engines[0].end_engine(signal).unwrap();
        bed.status_has(&["Docker does not answer at", "systemctl start docker"]);
        bed.engines[0].start_engine(&[]).unwrap();
        bed.has_network(0);
        bed.status_is_silent();
    }
    bed.engines[0].container("web", &["--network", "sextant"]).unwrap();
}

#[test]
fn an_unused_network_follows_the_prefix_and_a_used_one_waits_for_its_containers() {
    let bed = Bed::start("docker moved", 2, &[]);
    let reassign = |node: &str| bed.cluster.sextant(&["node", "reassign", node]);
    let before = bed.container_prefix(0);
    reassign("h1");
    poll("another prefix", 20 * SECONDS, || {
        anyhow::ensure!(bed.container_prefix(0) != before);
        Ok(())
    });
    bed.has_network(0);
    bed.engine_routes_are(0, "sextant0", &[&bed.container_prefix(0)]);
    bed.status_is_silent();
    bed.engines[1].container("web", &["--network", "sextant"]).unwrap();
    bed.engines[1].container("spare", &["--network", "sextant"]).unwrap();
    bed.engines[1].run(&["stop", "-t", "0", "spare"]).unwrap();
    let before = bed.container_prefix(1);
    reassign("h2");
    poll("another prefix", 20 * SECONDS, || {
        anyhow::ensure!(bed.container_prefix(1) != before);
        Ok(())
    });
    bed.status_has(&["containers are on it: spare, web", "docker rm -f spare web"]);
    // The fix, word for word.
    bed.engines[1].run(&["rm", "-f", "spare", "web"]).unwrap();
    bed.has_network(1);
    bed.engine_routes_are(1, "sextant0", &[&bed.container_prefix(1)]);
    bed.status_is_silent();
    let address = bed.engines[1].container("web", &["--network", "sextant"]).unwrap();
    bed.engines[0].container("web", &["--network", "sextant"]).unwrap();
    bed.pings(0, "web", &address);
}

#[test]
fn a_used_network_follows_the_prefix_where_that_is_allowed() {
    let bed = Bed::start("docker replaced", 2, &["--docker-replace-used"]);
    bed.engines.iter().for_each(|engine| {
        engine.container("web", &["--network", "sextant"]).unwrap();
    });
    let before = bed.engines[1].address("web").unwrap();
    bed.cluster.sextant(&["node", "reassign", "h2"]);
    poll("the container has another address", 20 * SECONDS, || {
        anyhow::ensure!(bed.engines[1].address("web")? != before);
        Ok(())
    });
    bed.pings(0, "web", &bed.engines[1].address("web").unwrap());
}

#[test]
fn what_others_made_is_left_alone_and_named() {
    let bed = Bed::start("docker others", 1, &[]);
    let engine = &bed.engines[0];
    let prefix = bed.container_prefix(0);
    bed.cluster.agents[0].process.freeze().unwrap();
    engine.run(&["network", "rm", "sextant"]).unwrap();
    engine.run(&["network", "create", "--ipv6", "--subnet", "fd00:5::/64", "sextant"]).unwrap();
    bed.cluster.agents[0].process.thaw().unwrap();
    bed.status_has(&["network sextant that the agent did not make, and it has fd00:5::/64"]);
    engine.run(&["network", "rm", "sextant"]).unwrap();
    bed.has_network(0);
    bed.status_is_silent();

    bed.cluster.agents[0].process.freeze().unwrap();
    engine.run(&["network", "rm", "sextant"]).unwrap();
    engine.run(&["network", "create", "--ipv6", "--subnet", &prefix, "compose_default"]).unwrap();
    bed.cluster.agents[0].process.thaw().unwrap();
    bed.status_has(&["network compose_default has", "docker network rm compose_default"]);
    engine.run(&["network", "rm", "compose_default"]).unwrap();
    bed.has_network(0);
    bed.status_is_silent();
}

#[test]
fn a_route_of_a_former_prefix_goes_also_after_the_agent_was_killed() {
    let mut bed = Bed::start("docker former", 1, &[]);
    let before = bed.own_prefix(0);
    bed.cluster.sextant(&["node", "reassign", "h1"]);
    poll("another prefix", 20 * SECONDS, || {
        anyhow::ensure!(bed.container_prefix(0) != before);
        Ok(())
    });
    bed.has_network(0);
    let now = bed.own_prefix(0);
    bed.engine_routes_are(0, "sextant0", &[&now]);
    bed.cluster.agents.remove(0).process.kill().unwrap();
    // As an engine up to 26 leaves it.
    bed.cluster.hosts[0].ip(&format!("-6 route add {before} dev sextant0 proto boot")).unwrap();
    bed.restart_agents(&NETWORK);
    bed.engine_routes_are(0, "sextant0", &[&now]);
    bed.status_is_silent();
}
