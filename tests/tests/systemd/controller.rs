//! The controller as a service.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sextant_tests::{
    AgentOptions, Lab, RouteMonitor, SECONDS, poll,
    stub_nodes::{self, DOWN_AFTER, Streams},
};

use crate::{
    agent::settled,
    machine::{INTERVAL, Machine},
};

const UNIT: &str = "sextant-controller";
const CONFIG: &str = "listen = \"[2001:db8::c:1]:7300\"\ninsecure = true\n";
const STORE: &str = "/var/lib/sextant/controller/controller.redb";

/// The claims, which no restart may change.
fn claims(lab: &Lab) -> Vec<String> {
    let nodes = lab.cli_json(&["node", "list"]).unwrap();
    let claim = |node: &serde_json::Value| format!("{} {} {}", node["name"], node["prefix"], node["epoch"]);
    nodes.as_array().unwrap().iter().map(claim).collect()
}

fn both_ready(lab: &Lab) {
    poll("both nodes are ready", 30 * SECONDS, || {
        let output = lab.cli(&["-o", "json", "node", "list"])?.succeeded()?.stdout;
        let nodes: serde_json::Value = serde_json::from_str(&output)?;
        let ready = nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
        anyhow::ensure!(ready == 2, "{nodes}");
        Ok(())
    });
}

#[test]
fn no_route_and_no_claim_changes_when_the_controller_stops_crashes_or_hangs() {
    let lab = Lab::new("the controller under systemd").unwrap();
    let hosts = lab.hosts(2).unwrap();
    let machine = Machine::boot(&lab, lab.switch(), &[("controller.toml", CONFIG)]);
    machine.systemctl(&["enable", "--now", UNIT]);
    // The start is back when the controller serves.
    let pool = ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
    lab.cli(&pool).unwrap().succeeded().unwrap();
    let agent = |host| lab.agent(host, AgentOptions::default()).unwrap();
    let _agents: Vec<_> = hosts.iter().map(agent).collect();
    both_ready(&lab);
    let (a, b) = (hosts[0].container("a").unwrap(), hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || a.ping(b.address())?.replied());
    settled(&hosts);

    let before = claims(&lab);
    let monitors: Vec<_> = hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let stream = a.udp_stream(&b, INTERVAL).unwrap();

    machine.signal_until_restarted(UNIT, "STOP", "1");
    let journal = machine.journal(UNIT);
    assert!(journal.contains("Watchdog timeout"), "not by the watchdog:\n{journal}");
    both_ready(&lab);
    assert_eq!(claims(&lab), before, "after the watchdog's kill");

    machine.signal_until_restarted(UNIT, "KILL", "2");
    both_ready(&lab);
    assert_eq!(claims(&lab), before, "after kill -9");

    machine.systemctl(&["stop", UNIT]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    stream.flows(100, 20 * SECONDS).unwrap();
    let new = machine.replace("sextant-controller");
    machine.systemctl(&["start", UNIT]);
    assert_eq!(machine.running_inode(UNIT), new, "the new binary");
    both_ready(&lab);
    assert_eq!(claims(&lab), before, "after an upgrade");

    // For longer than the watchdog's period, with nothing to do.
    stream.flows(1000, 30 * SECONDS).unwrap();
    assert_eq!(machine.property(UNIT, "NRestarts"), "0", "since the last start");
    stream.finish().unwrap().nothing_lost().unwrap();
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());

    assert_eq!(machine.process_status(UNIT, "CapBnd"), "0000000000000000", "capabilities");
    assert!(!machine.process_status(UNIT, "Uid").starts_with('0'), "it runs as root");
    assert_eq!(machine.run(&["stat", "--format=%a", STORE]).unwrap(), "600");
}

#[test]
fn without_etcd_the_start_continues_and_can_be_stopped() {
    let lab = Lab::new("a controller without etcd under systemd").unwrap();
    let config = format!("{CONFIG}store = \"etcd:http://[2001:db8::c:1]:2379\"\n");
    let machine = Machine::boot(&lab, lab.switch(), &[("controller.toml", &config)]);
    machine.systemctl(&["start", "--no-block", UNIT]);
    poll("it has tried", 40 * SECONDS, || {
        let tries = machine.journal(UNIT).matches("store does not answer yet").count();
        if tries >= 1 { Ok(()) } else { Err(format!("{tries} tries")) }
    });
    // For longer than TimeoutStartSec is in the lab.
    std::thread::sleep(8 * SECONDS);
    assert_eq!(machine.property(UNIT, "ActiveState"), "activating");
    let status = machine.property(UNIT, "StatusText");
    assert!(status.starts_with("waiting for the store: "), "{status}");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    machine.systemctl(&["stop", UNIT]);
    assert_eq!(machine.property(UNIT, "Result"), "success", "it had to be killed");
}

/// Each has a connection and a stream of its own; systemd's default limit of open files is 1024.
#[test]
fn two_thousand_agents_are_served_within_the_units_limits() {
    const AGENTS: u32 = 2000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let lab = Lab::new("two thousand agents").unwrap();
    let config = format!("{CONFIG}down-after = {DOWN_AFTER}\n");
    let machine = Machine::boot(&lab, lab.switch(), &[("controller.toml", config.as_str())]);
    machine.systemctl(&["enable", "--now", UNIT]);
    let pool = ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
    lab.cli(&pool).unwrap().succeeded().unwrap();
    let url = "http://[2001:db8::c:1]:7300";
    let nodes = stub_nodes::join_at(lab.switch(), url.to_owned(), 1..=AGENTS).unwrap();
    let streams = Streams::open(lab.switch(), url, &nodes).unwrap();
    let listed = lab.cli_json(&["node", "list"]).unwrap();
    let connected = listed.as_array().unwrap().iter().filter(|node| node["connected"] == true).count();
    assert_eq!(connected, AGENTS as usize);
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    drop(streams);
}
