//! Other programs that manage the network of a host: the real systemd-networkd, NetworkManager, dhcpcd and ifupdown. What the agent
//! needs is back at once after each of their operations, nobody fights, and each fix ends its finding.

use std::time::Duration;

use sextant_tests::{
    Agent, AgentOptions, Container, Controller, Host, Lab, MILLISECONDS, Process, RouteMonitor, SECONDS, poll,
};

use crate::{
    agent::{CONFIG, start_controller},
    machine::{INTERVAL, Machine},
};

const UNIT: &str = "sextant-agent";
/// Without DAD, the uplink's address is usable at once when it is set again.
const STATIC: &str = "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\n[Address]\n\
                      Address=2001:db8::1/64\nDuplicateAddressDetection=none\n";
const NETWORKD_FILE: &str = "/etc/systemd/network/10-eth0.network";
/// What the machine's files survive a boot in.
const KEPT: &[&str] = &["/var/lib/private", "/etc/systemd/network", "/etc/systemd/networkd.conf.d"];

/// h1, a machine on which another program gives the uplink its addresses, and h2, an ordinary host; containers on both.
struct Managed {
    containers: [Container; 2],
    machine: Option<Machine>,
    _other: Agent,
    _controller: Controller,
    hosts: Vec<Host>,
    lab: Lab,
    /// What stood on h1 after the start.
    stood: Vec<String>,
}

impl Managed {
    /// With the program that `manager` starts.
    fn start(test: &str, manager: impl FnOnce(&Lab, &Machine)) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(2).unwrap();
        let controller = start_controller(&lab);
        let machine = Machine::boot_keeping(&lab, &hosts[0], &[("agent.toml", CONFIG)], KEPT);
        hosts[0].ip("-6 address flush dev eth0 scope global").unwrap();
        manager(&lab, &machine);
        machine.systemctl(&["start", UNIT]);
        let other = lab.agent(&hosts[1], AgentOptions::default()).unwrap();
        let containers = paired(&lab, &hosts);
        let stood = kept(&hosts[0]).unwrap();
        let machine = Some(machine);
        Self { containers, machine, _other: other, _controller: controller, hosts, lab, stood }
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap()
    }

    /// Waits until all is as after the start.
    fn stands(&self, after: &str, deadline: Duration) {
        poll(&format!("all is as before, after {after}"), deadline, || {
            let now = kept(&self.hosts[0])?;
            anyhow::ensure!(now == self.stood, "{now:#?}\nis not\n{:#?}", self.stood);
            anyhow::Ok(())
        });
    }

    /// Runs a line in the machine. All is as before within `most`, no more is lost, and then nothing changes any more.
    fn survives(&self, line: &str, most: Duration) {
        let stream = self.containers[0].udp_stream(&self.containers[1], INTERVAL).unwrap();
        stream.flows(50, 10 * SECONDS).unwrap_or_else(|error| panic!("before {line}: {error}"));
        let output = self.machine().shell(line);
        self.stands(line, most + 5 * SECONDS);
        stream.flows(100, most + 10 * SECONDS).unwrap_or_else(|error| panic!("after {line}: {error}"));
        let lost = stream.finish().unwrap().lost.len();
        println!("{line}: {lost} datagrams lost, one each {INTERVAL:?}");
        assert!(INTERVAL * u32::try_from(lost).unwrap() < most, "{line}: {lost} datagrams lost: {output}");
        self.is_quiet(line);
    }

    /// Nothing of the agent's is changed while traffic flows for a second.
    fn is_quiet(&self, after: &str) {
        let monitor = RouteMonitor::start(&self.hosts[0]).unwrap();
        let stream = self.containers[0].udp_stream(&self.containers[1], INTERVAL).unwrap();
        stream.flows(200, 20 * SECONDS).unwrap();
        let events = monitor.events().unwrap();
        let ours: Vec<_> = events.iter().filter(|event| event.route.protocol == 66).collect();
        assert!(ours.is_empty(), "a fight after {after}: {ours:#?}");
    }

    /// Carries out the fix of the doctor's problem with these words, as it is written; the problem is gone then.
    fn fix(&self, words: &str) {
        let doctor = || self.machine().shell("sextant-agent doctor");
        let printed = doctor();
        let fix = printed
            .lines()
            .skip_while(|line| !line.contains(words))
            .find_map(|line| line.strip_prefix("  fix: "));
        let fix = fix.unwrap_or_else(|| panic!("no fix for {words}: {printed}"));
        // A part in words is for an operator, and follows the commands.
        let fix = fix.replace(", and restart dhcpcd", " && systemctl restart dhcpcd");
        self.machine().run(&["sh", "-c", &fix]).unwrap_or_else(|error| panic!("{fix}: {error:#}"));
        poll(&format!("{words} is gone"), 10 * SECONDS, || {
            let printed = doctor();
            if printed.contains(words) { Err(printed) } else { Ok(()) }
        });
    }

    fn expect_status(&self, words: &str) {
        poll(&format!("status names {words}"), 10 * SECONDS, || {
            let text = self.lab.cli(&["status"])?.stdout;
            anyhow::ensure!(text.contains(words), "{text}");
            anyhow::Ok(())
        });
    }
}

/// What the agent keeps on a host.
fn kept(host: &Host) -> anyhow::Result<Vec<String>> {
    let mut kept = host.routes_of(66)?;
    kept.extend(host.addresses_of("docker0")?.iter().map(|(addr, len)| format!("{addr}/{len}")));
    for sysctl in
        ["all/forwarding", "eth0/forwarding", "docker0/forwarding", "docker0/accept_ra", "eth0/accept_ra"]
    {
        let value = host.check(&["cat", &format!("/proc/sys/net/ipv6/conf/{sysctl}")])?;
        kept.push(format!("{sysctl} = {}", value.trim()));
    }
    Ok(kept)
}

/// Containers on both hosts, with a path between them.
fn paired(lab: &Lab, hosts: &[Host]) -> [Container; 2] {
    poll("both are ready", 30 * SECONDS, || {
        let nodes = lab.cli_json(&["node", "list"])?;
        let ready = nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
        if ready == 2 { Ok(()) } else { Err(anyhow::anyhow!("{nodes}")) }
    });
    lab.cli(&["wait", "--timeout", "20s"]).unwrap().succeeded().unwrap();
    let containers = [hosts[0].container("a").unwrap(), hosts[1].container("b").unwrap()];
    poll("the path between them", 20 * SECONDS, || containers[0].ping(containers[1].address())?.replied());
    containers
}

fn start_networkd(machine: &Machine, network: &str) {
    machine.write(NETWORKD_FILE, "644", network);
    machine.systemctl(&["start", "systemd-networkd"]);
    // Before that, the kernel may have taken a router advertisement, and networkd removes what came with it.
    poll("networkd has configured the uplink", 20 * SECONDS, || {
        let state = machine.shell("networkctl status eth0");
        if state.contains("(configured)") { Ok(()) } else { Err(state) }
    });
    has_address(machine);
}

fn has_address(machine: &Machine) {
    poll("the uplink has an address", 20 * SECONDS, || {
        let addresses = machine.run(&["ip", "-6", "address", "show", "dev", "eth0", "scope", "global"])?;
        anyhow::ensure!(addresses.contains("2001:db8:") && !addresses.contains("tentative"), "{addresses}");
        anyhow::Ok(())
    });
}

/// Advertises the uplink's prefix, as on-link and for addresses.
fn advertise(lab: &Lab) -> (Host, Process) {
    let router = lab.router().unwrap();
    let (file, pid) = (router.dir().join("radvd.conf"), router.dir().join("radvd.pid"));
    let interface = "interface eth0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix 2001:db8::/64 { }; };\n";
    std::fs::write(&file, interface).unwrap();
    let (file, pid) = (file.display().to_string(), pid.display().to_string());
    let radvd = router.spawn("radvd", &["radvd", "-n", "-m", "stderr", "-C", &file, "-p", &pid]).unwrap();
    (router, radvd)
}

#[test]
fn networkd_may_reload_reconfigure_and_restart() {
    let managed = Managed::start("networkd", |_, machine| start_networkd(machine, STATIC));
    managed.survives("networkctl reload", 100 * MILLISECONDS);
    managed.survives("networkctl reconfigure eth0", SECONDS);
    managed.expect_status("another process changed routes of sextant-agent");
    let words = "systemd-networkd runs here, and removes other programs' routes";
    managed.expect_status(words);
    managed.survives("systemctl restart systemd-networkd", SECONDS);

    managed.fix(words);
    let monitor = RouteMonitor::start(&managed.hosts[0]).unwrap();
    managed.survives("networkctl reconfigure eth0", SECONDS);
    let unreachable =
        |event: &&sextant_tests::RouteEvent| event.route.protocol == 66 && event.route.hops.is_empty();
    assert_eq!(monitor.events().unwrap().iter().filter(unreachable).count(), 0, "it still deletes them");

    let any = "/etc/systemd/network/50-any.network";
    managed.machine().write(any, "644", "[Match]\nName=docker0\n[Network]\nLinkLocalAddressing=no\n");
    managed.survives("networkctl reload; networkctl reconfigure docker0", SECONDS);
    managed.fix("systemd-networkd manages the containers' bridge docker0");
    managed.survives("networkctl reload; networkctl reconfigure eth0", SECONDS);
}

#[test]
#[ignore = "slow: waits for router advertisements again and again"]
fn networkd_keeps_what_it_has_by_router_advertisement() {
    let mut radvd = None;
    let managed = Managed::start("networkd by router advertisement", |lab, machine| {
        radvd = Some(advertise(lab));
        start_networkd(machine, "[Match]\nName=eth0\n[Network]\nLinkLocalAddressing=ipv6\n");
    });
    // networkd handles router advertisements itself: the kernel must not.
    assert!(managed.stood.contains(&"eth0/accept_ra = 0".to_owned()), "{:?}", managed.stood);
    managed.survives("networkctl reconfigure eth0", 6 * SECONDS);
    managed.survives("systemctl restart systemd-networkd", 6 * SECONDS);

    let words = "systemd-networkd ignores router advertisements on uplink eth0";
    assert!(!managed.machine().shell("sextant-agent doctor").contains(words));
    managed.machine().write(
        "/etc/systemd/network/10-eth0.network.d/forward.conf",
        "644",
        "[Network]\nIPForward=yes\n",
    );
    managed.fix(words);
    managed.survives("networkctl reconfigure eth0", 6 * SECONDS);
    has_address(managed.machine());
}

#[test]
fn networkd_and_the_agent_are_back_after_a_boot() {
    let mut managed = Managed::start("networkd and a boot", |_, machine| start_networkd(machine, STATIC));
    managed.fix("systemd-networkd runs here, and removes other programs' routes");
    managed.machine = None;
    managed.hosts[0].power_off().unwrap();
    managed.hosts[0].power_on().unwrap();
    managed.hosts[0].ip("-6 address flush dev eth0 scope global").unwrap();
    let machine = Machine::boot_keeping(&managed.lab, &managed.hosts[0], &[("agent.toml", CONFIG)], KEPT);
    // Both at once, as at a boot.
    machine.systemctl(&["start", "--no-block", UNIT, "systemd-networkd"]);
    managed.machine = Some(machine);
    managed.stands("a boot", 30 * SECONDS);
    let h1 = managed.hosts[0].container("c").unwrap();
    poll("the path", 20 * SECONDS, || h1.ping(managed.containers[1].address())?.replied());
}

#[test]
fn network_manager_may_reload_reapply_and_restart() {
    let managed = Managed::start("NetworkManager", |_, machine| {
        let profile = "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=disabled\n[ipv6]\n\
                       method=manual\naddress1=2001:db8::1/64\n";
        machine.write("/etc/NetworkManager/system-connections/eth0.nmconnection", "600", profile);
        machine.systemctl(&["start", "NetworkManager"]);
        has_address(machine);
    });
    for (line, most) in [
        ("nmcli connection reload", 100 * MILLISECONDS),
        ("nmcli device reapply eth0", SECONDS),
        ("nmcli connection up eth0", 8 * SECONDS),
        ("systemctl restart NetworkManager", SECONDS),
        ("nmcli device reapply docker0", 4 * SECONDS),
    ] {
        managed.survives(line, most);
    }
    managed.fix("NetworkManager manages links of the containers' bridge docker0");
    managed.survives("nmcli device reapply docker0", SECONDS);
    managed.survives("systemctl restart NetworkManager", SECONDS);
}

#[test]
fn dhcpcd_may_rebind_and_restart() {
    let mut radvd = None;
    let managed = Managed::start("dhcpcd", |lab, machine| {
        radvd = Some(advertise(lab));
        machine.write("/etc/dhcpcd.conf", "644", "duid\npersistent\nslaac hwaddr\nipv6only\nnodev\n");
        let unit =
            "[Service]\nExecStart=/usr/sbin/dhcpcd -B\nRuntimeDirectory=dhcpcd\nStateDirectory=dhcpcd\n";
        machine.write("/etc/systemd/system/dhcpcd.service", "644", unit);
        machine.systemctl(&["daemon-reload"]);
        machine.systemctl(&["start", "dhcpcd"]);
        has_address(machine);
    });
    managed.survives("dhcpcd -n eth0", SECONDS);
    managed.survives("systemctl restart dhcpcd", SECONDS);
    managed.fix("dhcpcd runs on links of containers");
    managed.survives("systemctl restart dhcpcd", SECONDS);
}

#[test]
#[ignore = "slow: each outage of the uplink lasts for seconds"]
fn ifupdown_may_take_the_uplink_down_and_up() {
    let managed = Managed::start("ifupdown", |_, machine| {
        let interface = "iface eth0 inet6 static\n address 2001:db8::1/64\n dad-attempts 0\n";
        machine.write("/etc/network/interfaces", "644", interface);
        machine.run(&["mkdir", "-p", "/etc/network/if-pre-up.d", "/etc/network/if-up.d"]).unwrap();
        machine.run(&["mkdir", "-p", "/etc/network/if-down.d", "/etc/network/if-post-down.d"]).unwrap();
        machine.run(&["ifup", "eth0"]).unwrap();
        has_address(machine);
    });
    managed.survives("ifdown eth0 && ifup eth0", 4 * SECONDS);
    managed.survives("ip -6 route flush table main proto sextant", SECONDS);
}
