//! Install, upgrade, downgrade, remove and purge on three hosts with traffic: no route changes, and no packet is lost.

use sextant_tests::{Booted, Container, Host, Lab, MILLISECONDS, RouteMonitor, SECONDS, UdpStream, poll};

use crate::{
    built::Packages,
    machine::{boot, dpkg, install},
};

const AGENT: &str = "sextant-agent";
const CONTROLLER: &str = "sextant-controller";
/// Between two packets of a stream.
const INTERVAL: std::time::Duration = MILLISECONDS.saturating_mul(5);

struct Site {
    controller: Booted,
    machines: Vec<Booted>,
    hosts: Vec<Host>,
    lab: Lab,
}

impl Site {
    /// A controller and three hosts with the earlier packages.
    fn new() -> Self {
        let lab = Lab::new("packages").unwrap();
        let hosts = lab.hosts(3).unwrap();
        let controller = boot(&lab, lab.switch());
        install(&controller, "earlier", &[CONTROLLER]);
        let store = "embedded:/var/lib/sextant/controller/controller.redb";
        let settings = &format!("listen = \"[2001:db8::c:1]:7300\"\ninsecure = true\nstore = \"{store}\"\n");
        controller.run(&["sh", "-c", "printf %s \"$0\" >>/etc/sextant/controller.toml", settings]).unwrap();
        controller.systemctl(&["enable", "--now", CONTROLLER]);
        let pool = ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
        lab.cli(&pool).unwrap().succeeded().unwrap();
        let machines = hosts.iter().map(|host| boot(&lab, host)).collect();
        let site = Self { controller, machines, hosts, lab };
        for (machine, host) in site.machines.iter().zip(&site.hosts) {
            install(machine, "earlier", &[AGENT]);
            // Installed, and waiting for its settings.
            assert_eq!(machine.property(AGENT, "ActiveState"), "inactive");
            let settings = format!(
                "controller = [\"http://[2001:db8::c:1]:7300\"]\ninsecure = true\nnode = \"{}\"\n\
                 [uplink]\ninterface = [\"eth0\"]\n[bridge]\ncreate = true\n",
                host.name()
            );
            machine.run(&["sh", "-c", "printf %s \"$0\" >>/etc/sextant/agent.toml", &settings]).unwrap();
            machine.systemctl(&["enable", "--now", AGENT]);
        }
        site.all_ready();
        site
    }

    /// Waits until each node is ready, and each agent has applied the last change.
    fn all_ready(&self) {
        poll("all nodes are ready", 40 * SECONDS, || {
            let nodes = self.lab.cli_json(&["node", "list"])?;
            let ready = nodes.as_array().into_iter().flatten();
            let ready = ready.filter(|node| node["state"] == "ready" && node["connected"] == true).count();
            anyhow::ensure!(ready == 3, "{nodes}");
            self.lab.cli(&["wait", "--timeout", "10s"])?.succeeded()
        });
    }

    /// What no package may change: prefixes and epochs.
    fn claims(&self) -> Vec<String> {
        let nodes = self.lab.cli_json(&["node", "list"]).unwrap();
        let claim =
            |node: &serde_json::Value| format!("{} {} {}", node["name"], node["prefix"], node["epoch"]);
        nodes.as_array().unwrap().iter().map(claim).collect()
    }

    /// Installs this version everywhere, in the order of docs/operations.md.
    fn change_to(&self, version: &str, expected: &str) {
        for (machine, package) in std::iter::once((&self.controller, CONTROLLER))
            .chain(self.machines.iter().map(|machine| (machine, AGENT)))
        {
            let before = machine.property(package, "MainPID");
            install(machine, version, &[package]);
            assert_eq!(dpkg(machine, &format!("dpkg-query -W -f '${{Version}}' {package}")), expected);
            poll(&format!("{package} {version} runs"), 30 * SECONDS, || {
                let now = [machine.property(package, "ActiveState"), machine.property(package, "MainPID")];
                if now[0] == "active" && now[1] != before { Ok(()) } else { Err(format!("{now:?}")) }
            });
            assert_eq!(machine.property(package, "UnitFileState"), "enabled");
            self.all_ready();
        }
    }
}

fn streams(hosts: &[Host]) -> (Vec<Container>, Vec<UdpStream>) {
    let containers: Vec<_> = hosts.iter().map(|host| host.container("a").unwrap()).collect();
    for (index, from) in containers.iter().enumerate() {
        let to = &containers[(index + 1) % containers.len()];
        poll("the path between them", 10 * SECONDS, || from.ping(to.address())?.replied());
    }
    let stream = |index: usize| containers[index].udp_stream(&containers[(index + 1) % 3], INTERVAL).unwrap();
    let streams = (0..3).map(stream).collect();
    (containers, streams)
}

/// All routes with the agent's protocol.
fn routes(host: &Host) -> String {
    host.ip("-6 route show table all proto 66").unwrap()
}

#[test]
fn packages_come_change_and_go_without_a_lost_packet() {
    let site = Site::new();
    let (_containers, streams) = streams(&site.hosts);
    let claims = site.claims();
    let monitors: Vec<_> = site.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let present = Packages::present().field(AGENT, "Version");
    let earlier = Packages::earlier().field(AGENT, "Version");

    site.change_to("present", &present);
    assert_eq!(site.claims(), claims, "after the upgrade");
    site.change_to("earlier", &earlier);
    assert_eq!(site.claims(), claims, "after the downgrade");
    site.change_to("present", &present);

    // Removed, its settings and its state stay; installed again, it goes on with them.
    let removed = &site.machines[0];
    let said = dpkg(removed, "dpkg --remove sextant-agent");
    assert!(said.contains("routes and bridge stay in the kernel"), "{said}");
    assert!(!removed.shell("systemctl is-active sextant-agent").starts_with("active"));
    removed.run(&["grep", "-q", "node = \"h1\"", "/etc/sextant/agent.toml"]).unwrap();
    streams.iter().for_each(|stream| stream.flows(100, 20 * SECONDS).unwrap());
    install(removed, "present", &[AGENT]);
    removed.systemctl(&["start", AGENT]);
    site.all_ready();
    assert_eq!(site.claims(), claims, "after a removal");

    // Purged, nothing of it is in the file system; the kernel is as it was.
    let purged = &site.machines[1];
    let files = purged.run(&["dpkg", "--listfiles", AGENT]).unwrap();
    dpkg(purged, "dpkg --purge sextant-agent");
    assert_eq!(left(purged, &files), "", "purge has left files");
    streams.iter().for_each(|stream| stream.flows(100, 20 * SECONDS).unwrap());
    for (stream, monitor) in streams.into_iter().zip(&monitors) {
        stream.finish().unwrap().nothing_lost().unwrap();
        monitor.quiet_since(0).unwrap();
    }

    // Who accepts the cleanup has a kernel without a trace of it, once no container is in the way.
    let cleaned = &site.machines[2];
    dpkg(cleaned, "echo sextant-agent sextant-agent/cleanup boolean true | debconf-set-selections");
    let refused = cleaned.shell("DEBIAN_FRONTEND=noninteractive dpkg --purge sextant-agent");
    assert!(refused.contains("bridge docker0 kept"), "{refused}");
    cleaned.run(&["which", AGENT]).unwrap();
    site.hosts[2].ip("link del ve1").unwrap();
    dpkg(cleaned, "dpkg --purge sextant-agent");
    assert_eq!(routes(&site.hosts[2]), "");
    let bridges = site.hosts[2].ip("-o link show type bridge").unwrap();
    assert_eq!(bridges, "");
}

/// Which of these files, and of those that the daemon or systemd has made, exist.
fn left(machine: &Booted, files: &str) -> String {
    let made = "/etc/sextant /var/lib/sextant /var/lib/private/sextant /etc/systemd/system/*/sextant* /etc/systemd/system/sextant* \
                /var/lib/systemd/deb-systemd-helper-*/*sextant*";
    let shipped: Vec<_> = files.lines().filter(|path| path.contains("sextant")).collect();
    machine.shell(&format!("ls -d {made} {} 2>/dev/null", shipped.join(" ")))
}
