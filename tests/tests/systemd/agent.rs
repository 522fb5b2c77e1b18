//! The agent as a service.

use anyhow::Context;
use sextant_proto::Prefix;
use sextant_tests::{
    Agent, AgentOptions, Container, Controller, ControllerOptions, Host, Lab, RouteMonitor, SECONDS,
    UdpStream, expect_text, poll,
};

use crate::machine::{INTERVAL, Machine};

const UNIT: &str = "sextant-agent";
pub const CONFIG: &str = r#"
    controller = ["http://[2001:db8::c:1]:7300"]
    insecure = true
    node = "h1"
    [uplink]
    interface = ["eth0"]
    [bridge]
    interface = "docker0"
    create = true
"#;
/// CAP_NET_ADMIN alone, as /proc writes it.
const NET_ADMIN: &str = "0000000000001000";

/// h1, on which systemd runs the agent, and h2, an ordinary one; containers on both.
struct Pair {
    machine: Machine,
    _agent: Agent,
    _controller: Controller,
    hosts: Vec<Host>,
    containers: [Container; 2],
    lab: Lab,
}

impl Pair {
    fn start(test: &str) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(2).unwrap();
        let controller = start_controller(&lab);
        let machine = Machine::boot(&lab, &hosts[0], &[("agent.toml", CONFIG)]);
        machine.systemctl(&["enable", "--now", UNIT]);
        // The start is back when the agent says that it is ready: nothing to wait for any more.
        let own = own_prefix(&lab).unwrap();
        let routes = hosts[0].routes_of(66).unwrap().join("\n");
        assert!(
            routes.contains(&format!("unreachable {own} proto 66")),
            "active, but the routes are: {routes}"
        );
        assert!(
            own.contains(hosts[0].bridge_address().unwrap().0),
            "active, but the bridge's address is not of {own}"
        );
        assert_eq!(machine.property(UNIT, "ActiveState"), "active");
        let agent = lab.agent(&hosts[1], AgentOptions::default()).unwrap();
        poll("both are ready", 20 * SECONDS, || {
            let nodes = lab.cli_json(&["node", "list"])?;
            let ready =
                nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
            if ready == 2 { Ok(()) } else { Err(anyhow::anyhow!("{nodes}")) }
        });
        lab.cli(&["wait", "--timeout", "20s"]).unwrap().succeeded().unwrap();
        let containers = [hosts[0].container("a").unwrap(), hosts[1].container("b").unwrap()];
        poll("the path between them", 10 * SECONDS, || {
            containers[0].ping(containers[1].address())?.replied()
        });
        settled(&hosts);
        Self { machine, _agent: agent, _controller: controller, hosts, containers, lab }
    }

    /// Begins to look: at the routes of h1, and at traffic through it.
    fn watch(&self) -> (RouteMonitor, UdpStream) {
        let monitor = RouteMonitor::start(&self.hosts[0]).unwrap();
        (monitor, self.containers[0].udp_stream(&self.containers[1], INTERVAL).unwrap())
    }
}

pub fn start_controller(lab: &Lab) -> Controller {
    let controller = lab.controller(ControllerOptions::default()).unwrap();
    controller.wait_ready(10 * SECONDS).unwrap();
    let pool = ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
    lab.cli(&pool).unwrap().succeeded().unwrap();
    controller
}

/// The host prefix of the only node.
fn own_prefix(lab: &Lab) -> anyhow::Result<Prefix> {
    let nodes = lab.cli_json(&["node", "list"])?;
    Ok(nodes[0]["prefix"].as_str().context("no node has a prefix")?.parse()?)
}

/// A new port's link-local route comes a moment after its carrier.
pub fn settled(hosts: &[Host]) {
    for host in hosts {
        poll("the container's port is ready", 5 * SECONDS, || {
            let routes = host.routes()?.join("\n");
            anyhow::ensure!(routes.contains("fe80::/64 dev ve1"), "{routes}");
            Ok(())
        });
    }
}

#[test]
fn no_route_changes_when_the_agent_stops_crashes_or_hangs() {
    let pair = Pair::start("the agent under systemd");
    let machine = &pair.machine;
    let (monitor, stream) = pair.watch();

    machine.signal_until_restarted(UNIT, "STOP", "1");
    let journal = machine.journal(UNIT);
    assert!(journal.contains("Watchdog timeout"), "not by the watchdog:\n{journal}");
    machine.signal_until_restarted(UNIT, "KILL", "2");

    machine.systemctl(&["stop", UNIT]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.property(UNIT, "Result"), "success", "a stop is no failure");
    stream.flows(100, 20 * SECONDS).unwrap();
    machine.systemctl(&["start", UNIT]);

    let (before, new) = (machine.property(UNIT, "MainPID"), machine.replace("sextant-agent"));
    assert_ne!(machine.running_inode(UNIT), new, "the old binary runs on until the restart");
    machine.systemctl(&["restart", UNIT]);
    assert_eq!(machine.running_inode(UNIT), new, "the new binary");
    assert_ne!(machine.property(UNIT, "MainPID"), before);

    // For longer than the watchdog's period, with nothing to do.
    stream.flows(1000, 30 * SECONDS).unwrap();
    assert_eq!(machine.property(UNIT, "NRestarts"), "0", "since the last start");
    stream.finish().unwrap().nothing_lost().unwrap();
    monitor.quiet_since(0).unwrap();
}

#[test]
fn the_agent_has_only_the_privileges_that_it_needs() {
    let pair = Pair::start("the agent's sandbox");
    let machine = &pair.machine;
    for (field, expected) in
        [("CapEff", NET_ADMIN), ("CapBnd", NET_ADMIN), ("NoNewPrivs", "1"), ("Seccomp", "2")]
    {
        assert_eq!(machine.process_status(UNIT, field), expected, "{field}");
    }
    assert!(!machine.process_status(UNIT, "Uid").starts_with('0'), "it runs as root");
    // In spite of that it has done all of its work.
    let forwarding = pair.hosts[0].check(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).unwrap();
    assert_eq!(forwarding.trim(), "1");
    let files = machine.run(&["ls", "-A", "/var/lib/sextant/agent"]).unwrap();
    assert!(files.contains("claim.json") && files.contains("host.json"), "{files}");
    // And what it made has a name.
    let routes = machine.run(&["ip", "-6", "route"]).unwrap();
    let ours = |line: &&str| line.contains("via 2001:db8::2 dev eth0 proto sextant");
    assert!(routes.lines().any(|line| ours(&line)), "{routes}");

    // It probes by what it may send, and by ICMPv6 as soon as its group may.
    let kind = || {
        let traced = pair.lab.cli_json(&["trace", "h1", "h2"]).unwrap();
        let there = &traced["directions"][0];
        assert_eq!((&there["verdict"], &there["arrived"]), (&"works".into(), &3.into()), "{traced:#}");
        there["probe"]["kind"].clone()
    };
    pair.hosts[0].sysctl("net/ipv4/ping_group_range", "1 0").unwrap();
    assert_eq!(kind(), "udp");
    pair.hosts[0].sysctl("net/ipv4/ping_group_range", "0 2147483647").unwrap();
    assert_eq!(kind(), "icmpv6_echo");
}

#[test]
fn without_a_controller_the_agent_reports_it_and_does_not_delay_the_boot() {
    let lab = Lab::new("an agent without a controller under systemd").unwrap();
    let host = lab.host("h1").unwrap();
    let machine = Machine::boot(&lab, &host, &[("agent.toml", CONFIG)]);
    machine.systemctl(&["start", "--no-block", UNIT]);
    let status = || machine.property(UNIT, "StatusText");
    poll("it says what it waits for", 10 * SECONDS, || {
        if status().starts_with("waiting: ") { Ok(()) } else { Err(status()) }
    });
    assert_eq!(machine.property(UNIT, "ActiveState"), "activating", "with status {}", status());
    expect_text("after its grace", 40 * SECONDS, "active", || {
        Ok::<_, String>(machine.property(UNIT, "ActiveState"))
    });
    assert!(status().starts_with("waiting: "), "{}", status());
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");

    let _controller = start_controller(&lab);
    poll("with a controller", 20 * SECONDS, || {
        let (own, status) = (own_prefix(&lab)?, status());
        let expected = format!("set up; containers have {}/80", own.addr());
        anyhow::ensure!(status == expected, "\"{status}\" is not \"{expected}\"");
        Ok(())
    });
}
