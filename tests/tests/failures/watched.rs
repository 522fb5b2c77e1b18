//! Traffic between two hosts, and monitors of all hosts' routes.

use std::time::Duration;

use sextant_tests::{MILLISECONDS, RouteMonitor, SECONDS, UdpStream, poll};

use crate::etcd::Cluster;

/// Longer than the sessions' TTL and `down_after` together.
pub const LONG: Duration = Duration::from_secs(6);

pub struct Watched {
    stream: UdpStream,
    monitors: Vec<RouteMonitor>,
}

impl Watched {
    pub fn begin(cluster: &Cluster) -> Self {
        let (from, to) = (cluster.hosts[0].container("q").unwrap(), cluster.hosts[1].container("q").unwrap());
        poll("the path between them", 5 * SECONDS, || from.ping(to.address())?.replied());
        for host in &cluster.hosts[..2] {
            poll("the container's port is ready", 5 * SECONDS, || {
                let routes = host.routes()?.join("\n");
                anyhow::ensure!(routes.contains("fe80::/64 dev ve1"), "{routes}");
                anyhow::ensure!(routes.contains("fe80::/64 dev docker0"), "{routes}");
                anyhow::Ok(())
            });
        }
        let monitors = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
        Self { stream: from.udp_stream(&to, 20 * MILLISECONDS).unwrap(), monitors }
    }

    /// Waits for the traffic of this time.
    pub fn passes(&self, time: Duration) {
        let datagrams = u64::try_from(time.as_millis() / 20).unwrap();
        self.stream.flows(datagrams, time + 20 * SECONDS).unwrap();
    }

    /// Checks that no route has changed so far.
    pub fn routes_stay(&self) {
        self.monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
    }

    /// Checks that no route changed, no datagram was lost, and no daemon flooded its log.
    pub fn nothing_happened(self, cluster: &Cluster) {
        self.routes_stay();
        self.nothing_lost(cluster);
    }

    /// Checks that no datagram was lost and no daemon flooded its log. Routes may have changed, for example of new hosts.
    pub fn nothing_lost(self, cluster: &Cluster) {
        cluster.lab.logs_are_quiet().unwrap();
        self.stream.finish().unwrap().nothing_lost().unwrap();
    }
}
