//! Two hosts with one node id, whose agents a controller cannot tell apart at once.

use std::fs;

use sextant_proto::CLEAR_COPY;
use sextant_tests::{AgentOptions, SECONDS, bin, poll};

use super::{
    bed::{Bed, commands},
    nodes::{copy, state_dir},
};
fn named(name: &str) -> AgentOptions {
    AgentOptions { node: Some(name.into()), ..AgentOptions::default() }
}

/// What the fix of a copied disk says, word for word; then the host has nothing of any node.
pub fn clear(bed: &Bed, index: usize) {
    let words = "stop sextant-agent, remove the containers, run `sextant-agent cleanup` and delete its state directory";
    assert_eq!(CLEAR_COPY, words);
    bed.stop(index);
    if bed.host(index).ip("-br link show").unwrap().contains("ve1") {
        bed.host(index).ip("link delete ve1").unwrap();
    }
    let (agent, directory) = (bin("sextant-agent").unwrap(), state_dir(&bed.cluster, index));
    let (agent, state) = (agent.display().to_string(), directory.display().to_string());
    bed.host(index).check(&[agent.as_str(), "cleanup", "--state-dir", &state]).unwrap();
    fs::remove_dir_all(directory).unwrap();
}

/// The second host is a copy of the first from now on, with its name.
fn become_copy(bed: &Bed) {
    clear(bed, 1);
    bed.run(0, "sextant node forget h2 --force");
    copy(&state_dir(&bed.cluster, 0), &state_dir(&bed.cluster, 1));
}

/// One of both hangs at a time, so that the controller takes the other one for the node.
#[test]
fn a_copy_that_supersedes_the_original_is_cleared() {
    let mut bed = Bed::well("fixed flapping");
    let held = bed.cluster.prefix("h1");
    become_copy(&bed);
    bed.cluster.agents[0].process.freeze().unwrap();
    bed.cluster.agents[1] = bed.cluster.lab.agent(bed.host(1), named("h1")).unwrap();
    for round in 1..=4 {
        poll(&format!("superseded {round} times"), 40 * SECONDS, || {
            let superseded = bed.cluster.node("h1")["superseded"].as_u64().unwrap_or_default();
            if superseded >= round { Ok(()) } else { Err(superseded) }
        });
        let (runs, hangs) = (round as usize % 2, (round as usize + 1) % 2);
        bed.cluster.agents[hangs].process.thaw().unwrap();
        if round < 4 {
            bed.cluster.agents[runs].process.freeze().unwrap();
        }
    }
    let text = bed.expect("node h1: agents with its node id superseded each other");
    assert!(text.contains(CLEAR_COPY) && text.contains("set another --node"), "{text}");
    clear(&bed, 1);
    bed.cluster.agents[1] = bed.cluster.lab.agent(bed.host(1), named("h2")).unwrap();
    bed.cluster.settle();
    bed.renew_container(1);
    poll("the supersessions have ended", 90 * SECONDS, || {
        let text = bed.cluster.sextant(&["status"]);
        if text.starts_with("All is well") { Ok(()) } else { Err(text) }
    });
    bed.expect_healed();
    assert_eq!(bed.cluster.prefix("h1"), held);
}

/// A host got another name after its claim had ended, and a backup brings the claim of the former name back.
#[test]
fn the_former_name_of_a_host_is_forgotten() {
    let mut bed = Bed::well("fixed former");
    let backup = bed.cluster.lab.dir().join("backup").display().to_string();
    bed.cluster.sextant(&["backup", &backup]);
    bed.stop(0);
    bed.run(0, "sextant node forget h1 --force");
    bed.host(0).ip("link delete ve1").unwrap();
    bed.run(0, "sextant pool add other fd00:0:5e00::/40 --host-len 64 --container-len 80");
    let args = ["--pool".to_owned(), "other".to_owned()].to_vec();
    let options = AgentOptions { args, ..named("h9") };
    bed.cluster.agents[0] = bed.cluster.lab.agent(bed.host(0), options).unwrap();
    poll("h9 is ready", 20 * SECONDS, || {
        let node = bed.cluster.node("h9");
        if node["state"] == "ready" { Ok(()) } else { Err(node) }
    });
    bed.cluster.sextant(&["restore", &backup]);
    let text = bed.expect("has the same node id as node h9");
    let [forget] = commands(&text)[..] else { panic!("{text}") };
    bed.run(0, forget);
    let prefix = bed.cluster.prefix("h9");
    bed.containers[0] = bed.host(0).container_in("c9", prefix).unwrap();
    bed.expect_well();
    assert_eq!(bed.cluster.prefix("h9"), prefix);
}
