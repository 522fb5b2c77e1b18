//! Two hosts with one node id, whose agents a controller cannot tell apart at once.

use std::fs;

use sextant_proto::{
    CLEAR_COPY, NodeId,
    v1::{ClaimRequest, agent_service_client::AgentServiceClient, claim_response::Outcome},
};
use sextant_tests::{AgentOptions, Controller, SECONDS, bin, poll};
use tonic::transport::Endpoint;

use super::{
    bed::{Bed, commands},
    nodes::{copy, state_dir},
};
use crate::cluster::Cluster;

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

/// Both nodes claim for the first time, with the node id of a disk that was copied before. Returns whether both get a prefix.
fn claim_at_once(controller: &Controller, id: NodeId) -> bool {
    let url = controller.url();
    let both = || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let client = || async {
                let channel = Endpoint::from_shared(url.clone()).unwrap().connect().await.unwrap();
                AgentServiceClient::new(channel)
            };
            let (mut first, mut second) = (client().await, client().await);
            let request = |node: &str| ClaimRequest {
                node: node.into(),
                node_id: id.into(),
                ..ClaimRequest::default()
            };
            let (first, second) = tokio::join!(first.claim(request("h1")), second.claim(request("h2")));
            [first, second].map(|it| it.map(|it| it.into_inner().outcome))
        })
    };
    let granted = controller.namespace().enter(both).unwrap();
    granted.iter().all(|it| matches!(it, Ok(Some(Outcome::Granted(_)))))
}

/// The disks of both hosts have this node id.
fn share_id(cluster: &Cluster) {
    for attempt in 1.. {
        let id = NodeId::random();
        let both = claim_at_once(cluster.controller.as_ref().unwrap(), id);
        let nodes = ["h1", "h2"].map(|name| (name, !cluster.node(name).is_null()));
        if both && nodes.iter().all(|(_, known)| *known) {
            for index in 0..2 {
                let directory = state_dir(cluster, index);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("node-id"), format!("{id}\n")).unwrap();
            }
            return;
        }
        assert!(attempt < 6, "the claims are never made at once");
        for (name, _) in nodes.iter().filter(|(_, known)| *known) {
            cluster.sextant(&["node", "forget", name, "--force"]);
        }
    }
}

/// A disk was copied before its node had a claim, and both agents are connected.
#[test]
fn one_of_two_nodes_with_one_node_id_is_cleared_and_forgotten() {
    let mut bed = Bed::start("fixed shared id", ["uplink.interface = \"eth0\""; 2], share_id);
    let held = bed.cluster.prefix("h1");
    let text = bed.expect("has the same node id as node");
    assert!(text.contains(CLEAR_COPY) && text.contains("and start its agent again"), "{text}");
    bed.expect_reached();
    clear(&bed, 1);
    let [forget] = commands(&text)[..] else { panic!("{text}") };
    poll("the copy is down", 40 * SECONDS, || {
        let out =
            bed.cluster.lab.cli(&[&forget.split(' ').skip(1).collect::<Vec<_>>()[..], &["h2"]].concat());
        out?.succeeded()
    });
    bed.cluster.agents[1] = bed.cluster.lab.agent(bed.host(1), named("h2")).unwrap();
    bed.cluster.settle();
    bed.renew_container(1);
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
