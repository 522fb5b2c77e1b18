//! `sextant events`: changes with their authors and revisions.

use serde_json::Value;
use sextant_tests::{
    ControllerOptions, SECONDS, bin,
    cluster::{Cluster, GUIDE},
};

fn whats(events: &Value) -> Vec<String> {
    let line = |event: &Value| {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("what"), word("node")).trim_end().to_owned()
    };
    events.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn events_show_each_change_with_its_revision_and_its_author() {
    let mut cluster = Cluster::start("events", 2, GUIDE);
    let program = bin("sextant").unwrap().display().to_string();
    let url = cluster.controller.as_ref().unwrap().url();
    let args = [&program, "--controller", &url, "--insecure", "-o", "json", "events", "--follow"];
    let follow = cluster.lab.switch().spawn("follow", &args.map(str::to_owned)).unwrap();
    follow.wait_for_line("\"what\":\"ready\",\"node\":\"h2\"", 10 * SECONDS).unwrap();

    let drained = cluster.lab.cli_json(&["node", "drain", "h1"]).unwrap();
    cluster.sextant(&["node", "undrain", "h1"]);
    cluster.sextant(&["pause"]);
    cluster.sextant(&["resume"]);
    cluster.sextant(&["pool", "add", "more", "2001:db8:7::/48", "--host-len", "64"]);
    cluster.sextant(&["pool", "remove", "more"]);

    let of_h1 = cluster.lab.cli_json(&["events", "--node", "h1"]).unwrap();
    let life = ["claimed h1", "ready h1", "draining h1", "drained h1", "undrained h1", "ready h1"];
    assert_eq!(whats(&of_h1), life);
    assert_eq!(of_h1[0]["prefix"], cluster.prefix("h1").to_string());
    assert_eq!(of_h1[0]["by"], "anybody at 2001:db8::1", "the agent's own address");
    let claimed = cluster.node("h1")["epoch"]["revision"].clone();
    assert_eq!(of_h1[0]["revision"], claimed, "written with the claim itself");
    assert_eq!(of_h1[2]["revision"], drained["revision"], "written with the drain itself");

    let last = cluster.lab.cli_json(&["events", "--last", "4"]).unwrap();
    assert_eq!(whats(&last), ["paused", "resumed", "pool added", "pool removed"]);
    follow.wait_for_line("\"what\":\"pool removed\"", 10 * SECONDS).unwrap();

    // A follower goes on where it was once the controller is back.
    cluster.controller = None;
    cluster.start_controller(ControllerOptions::default());
    cluster.sextant(&["pause"]);
    cluster.sextant(&["resume"]);
    let revision = cluster.lab.cli_json(&["events", "--last", "1"]).unwrap()[0]["revision"].clone();
    follow.wait_for_line(&format!("{{\"revision\":{revision},"), 10 * SECONDS).unwrap();
    let reported: Vec<_> = follow
        .log()
        .lines()
        .filter(|line| line.contains("\"what\":\"claimed\""))
        .map(str::to_owned)
        .collect();
    assert_eq!(reported.len(), 2, "each once: {reported:?}");
    let table = cluster.sextant(&["events"]);
    assert!(table.lines().any(|line| line.contains("h1 draining, 2001:db8:")), "{table}");
}
