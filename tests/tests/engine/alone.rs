//! A second agent in the network namespace of the first one.

use std::{path::Path, process::Output};

use sextant_tests::{RouteMonitor, bin};

use crate::testbed::{Testbed, text};

/// Runs the agent with another state directory on the first host until it ends.
fn second(testbed: &Testbed, state_dir: &Path, more: &[&str]) -> Output {
    let agent = bin("sextant-agent").unwrap();
    let args = ["--node", "h9", "--state-dir", state_dir.to_str().unwrap(), "--bridge", "brd"];
    testbed.host().run(&[&[agent.to_str().unwrap()], &args[..], more].concat()).unwrap()
}

fn names_the_first(testbed: &Testbed, refused: &Output) {
    let (why, first) = (text(refused), testbed.cluster.agents[0].process.pid());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(why.contains(&format!("another sextant-agent (process {first})")), "{why}");
    assert!(why.contains("systemctl stop"), "{why}");
}

#[test]
fn i4_a_second_agent_in_the_network_namespace_is_refused_and_changes_nothing() {
    let mut testbed = Testbed::start("alone", 2);
    let other = testbed.cluster.lab.dir().join("second");
    let monitor = RouteMonitor::start(testbed.host()).unwrap();
    let flags = ["--uplink", "eth0", "--bridge-create", "--insecure", "--http", "[::1]:7402"];
    let run = [&flags[..], &["--controller", "http://[2001:db8::d]:7400"]].concat();
    names_the_first(&testbed, &second(&testbed, &other, &run));
    assert!(testbed.host().ip("link show brd").is_err(), "no bridge of the second one");
    // Its cleanup, with and without a state directory.
    names_the_first(&testbed, &second(&testbed, &other, &["cleanup"]));
    names_the_first(&testbed, &second(&testbed, &other.join("none"), &["cleanup"]));
    monitor.quiet_since(0).unwrap();
    testbed.cluster.expect_routes(0, &[0, 1]);
    // An agent on another host is in another network namespace: both run. The end of the first one frees the name.
    let first = testbed.cluster.agents.remove(0);
    first.process.kill().unwrap();
    let cleaned = second(&testbed, &other, &["cleanup"]);
    assert!(cleaned.status.success(), "{cleaned:?}");
}
