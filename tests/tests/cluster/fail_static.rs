//! Kills and restarts change nothing.

use std::time::{Duration, Instant};

use sextant_tests::{Container, ControllerOptions, MILLISECONDS, RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

/// The time during which nothing may change.
const QUIET: Duration = Duration::from_millis(1500);

/// Two containers between which datagrams are sent while nothing may change. Made before what is watched: a container
/// brings routes of its own.
pub struct Traffic {
    from: Container,
    to: Container,
}

impl Traffic {
    pub fn between(cluster: &Cluster) -> Self {
        let (from, to) = (cluster.hosts[0].container("q").unwrap(), cluster.hosts[1].container("q").unwrap());
        poll("the path between them", 5 * SECONDS, || from.ping(to.address())?.replied());
        // They change the sysctls of such links.
        poll("the agents have seen the containers' links", 10 * SECONDS, || {
            for host in &cluster.hosts[..2] {
                let values = host.check(&["sh", "-c", "cat /proc/sys/net/ipv6/conf/ve*/accept_ra"])?;
                anyhow::ensure!(values.lines().all(|value| value == "0"), "{values}");
            }
            anyhow::Ok(())
        });
        // A new port's link-local route comes a moment after its carrier.
        for host in &cluster.hosts[..2] {
            poll("the container's port is ready", 5 * SECONDS, || {
                let routes = host.routes()?.join("\n");
                anyhow::ensure!(routes.contains("fe80::/64 dev ve1"), "{routes}");
                anyhow::Ok(())
            });
        }
        Self { from, to }
    }

    /// Lets [`QUIET`] pass, in which nothing may be lost.
    pub fn flows(&self) {
        let stream = self.from.udp_stream(&self.to, 20 * MILLISECONDS).unwrap();
        let enough = u64::try_from(QUIET.as_millis() / 20).unwrap();
        stream.flows(enough, 20 * SECONDS).unwrap();
        stream.finish().unwrap().nothing_lost().unwrap();
    }
}

#[test]
fn i5_killing_and_restarting_everything_changes_no_route_and_loses_no_packet() {
    let mut cluster = Cluster::start("kill -9", 3, GUIDE);
    let (a, b) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the path there", 5 * SECONDS, || a.ping(b.address())?.replied());
    let refusals = |cluster: &Cluster| -> Vec<u64> {
        let count = |host: &sextant_tests::Host| {
            let counters = host.counters().unwrap();
            counters.of("Ip6OutNoRoutes")
                + counters.of("Icmp6OutDestUnreachs")
                + counters.of("Ip6OutDiscards")
        };
        cluster.hosts.iter().map(count).collect()
    };
    // The kernels discard their own first messages on links without a carrier, and send them again.
    let mut before = (refusals(&cluster), Instant::now());
    poll("the kernels' own messages are over", 20 * SECONDS, || {
        let now = refusals(&cluster);
        if now != before.0 {
            before = (now, Instant::now());
        }
        anyhow::ensure!(before.1.elapsed() > 3 * SECONDS, "{:?}", before.0);
        Ok(())
    });
    let before = before.0;
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let stream = a.udp_stream(&b, 5 * MILLISECONDS).unwrap();

    cluster.agents.iter().for_each(|agent| agent.process.kill().unwrap());
    cluster.controller.as_ref().unwrap().process.kill().unwrap();
    stream.flows(100, 10 * SECONDS).unwrap();
    cluster.agents.clear();
    (0..3).for_each(|index| cluster.start_agent(index));
    stream.flows(100, 10 * SECONDS).unwrap();
    cluster.controller = None;
    cluster.start_controller(ControllerOptions::default());
    cluster.settle();
    stream.flows(100, 10 * SECONDS).unwrap();

    stream.finish().unwrap().nothing_lost().unwrap();
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
    assert_eq!(refusals(&cluster), before, "the kernels' counters of packets without a route");
    cluster.expect_full_mesh();
}

/// Seen from outside: the kernel's notifications, its addresses and sysctls, the files, the store's records.
#[test]
fn i8_a_restart_without_changes_writes_nothing() {
    let mut cluster = Cluster::start("quiet", 2, GUIDE);
    let traffic = Traffic::between(&cluster);
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let state = |cluster: &Cluster| -> Vec<_> {
        let files = |host| std::fs::read_dir(cluster.lab.state_dir(host)).unwrap().map(|file| file.unwrap());
        let stamp =
            |file: std::fs::DirEntry| (file.file_name(), file.metadata().unwrap().modified().unwrap());
        let written =
            |host| files(host).filter(|file| file.file_name() != "lock").map(stamp).collect::<Vec<_>>();
        cluster.hosts.iter().map(written).collect()
    };
    let (written, nodes) = (state(&cluster), cluster.lab.cli_json(&["node", "list"]).unwrap());
    let settings = |cluster: &Cluster| -> Vec<String> {
        let all =
            "ip -6 -o address show scope global; grep -r . /proc/sys/net/ipv6/conf 2>&1 | grep -v _secret";
        cluster.hosts.iter().map(|host| host.check(&["sh", "-c", all]).unwrap()).collect()
    };
    let before = settings(&cluster);
    cluster.agents.clear();
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    for agent in &cluster.agents {
        agent.process.wait_for_line("\"host announced\"", 10 * SECONDS).unwrap();
    }
    traffic.flows();
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
    assert_eq!(settings(&cluster), before, "addresses and sysctls");
    assert_eq!(state(&cluster), written, "files in the state directories were written");
    let since = |nodes: &serde_json::Value| {
        nodes.as_array().unwrap().iter().map(|node| node["since_unix_ms"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        since(&cluster.lab.cli_json(&["node", "list"]).unwrap()),
        since(&nodes),
        "a node was written to the store"
    );
}

#[test]
fn i2_a_node_keeps_its_prefix_over_restarts_and_without_a_controller() {
    let mut cluster = Cluster::start("sticky", 2, GUIDE);
    let before = cluster.prefix("h1");
    cluster.controller = None;
    cluster.agents.clear();
    // As after a reboot: the kernel has forgotten everything.
    for host in &cluster.hosts {
        host.ip("-6 route flush proto 66").unwrap();
        host.ip("link delete docker0").unwrap();
        host.sysctl("net/ipv6/conf/all/forwarding", "0").unwrap();
    }
    (0..2).for_each(|index| cluster.start_agent(index));
    poll("the host is set up without a controller", 10 * SECONDS, || {
        let (address, _) = cluster.hosts[0].bridge_address()?;
        anyhow::ensure!(before.contains(address), "{address} is not of {before}");
        Ok::<_, anyhow::Error>(())
    });
    cluster.start_controller(ControllerOptions::default());
    cluster.settle();
    assert_eq!(cluster.prefix("h1"), before);
    cluster.expect_full_mesh();
}
