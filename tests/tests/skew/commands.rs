//! Commands of `sextant` of one version at a controller of the other.

use serde_json::Value;
use sextant_tests::Build;

use crate::{
    fleet::Fleet,
    several_pools::{BOTH, MAIN, add_ula, claims, expect_states, previous_has_one_claim},
};

/// Two nodes, the second one drained and without an agent.
fn two_nodes(test: &str, build: Build, first: &[&str]) -> Fleet {
    let mut fleet = Fleet::embedded(test, 2, build);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, build, first);
    fleet.start_agent_with(1, build, &MAIN);
    fleet.settle_by(1);
    fleet.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    fleet.cluster.agents.pop();
    fleet
}

/// Lists, shows and forgets nodes by the `sextant` of this build.
fn lists_shows_and_forgets(fleet: &Fleet, cli: Build) {
    let run = |args: &[&str]| fleet.cluster.lab.cli_built(cli, 1, args).unwrap();
    let succeeds = |args: &[&str]| run(args).succeeded().unwrap().stdout;
    let prefix = fleet.cluster.prefix("h1").to_string();
    for args in [&["node", "list"][..], &["node", "show", "h1"], &["-o", "json", "node", "list"]] {
        let shown = succeeds(args);
        assert!(shown.contains(&prefix), "{args:?}: {shown}");
    }
    let status = run(&["status"]);
    assert!(status.stdout.contains("h1") || status.code == 0, "{status:?}");
    let nodes: Value = serde_json::from_str(&succeeds(&["-o", "json", "node", "list"])).unwrap();
    assert_eq!(nodes.as_array().map(Vec::len), Some(2), "{nodes}");
    succeeds(&["node", "forget", "h2", "--force"]);
    assert!(!succeeds(&["node", "list"]).contains("h2"));
}

#[test]
fn an_old_sextant_works_with_a_new_controller() {
    if !previous_has_one_claim() {
        return;
    }
    let fleet = two_nodes("old sextant", Build::Present, &BOTH);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    lists_shows_and_forgets(&fleet, Build::Previous);
    // It ends all claims of a node; the agent claims anew.
    let before = claims(&fleet.cluster, "h1");
    let forget = ["node", "forget", "h1", "--force"];
    fleet.cluster.lab.cli_built(Build::Previous, 1, &forget).unwrap().succeeded().unwrap();
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    assert!(claims(&fleet.cluster, "h1").iter().all(|claim| !before.contains(claim)), "{before:?}");
}

#[test]
fn a_new_sextant_works_with_an_old_controller() {
    if !previous_has_one_claim() {
        return;
    }
    let fleet = two_nodes("new sextant", Build::Previous, &MAIN);
    lists_shows_and_forgets(&fleet, Build::Present);
    // An old controller would end the node's one claim, in whichever pool.
    let before = claims(&fleet.cluster, "h1");
    let refused = fleet.cluster.lab.cli(&["node", "forget", "h1", "--pool", "ula", "--force"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("ula"), "{refused:?}");
    assert_eq!(claims(&fleet.cluster, "h1"), before);
}
