//! The observations that these tests share.

use std::time::{Duration, Instant};

use sextant_tests::{
    Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// How long a verdict may take: three rounds of the kernel's 3 s each, and what lies between.
pub const VERDICT: Duration = Duration::from_secs(30);

/// Hosts with a default route to a router, to see what leaks to it; agents on all of them.
pub fn cluster_with_router(test: &str, hosts: u16) -> (Cluster, Host) {
    let mut cluster = Cluster::with_short_down_after(test, hosts, GUIDE);
    let router = cluster.lab.router().unwrap();
    for host in &cluster.hosts {
        host.default_route_via(router.address()).unwrap();
    }
    start_agents(&mut cluster);
    (cluster, router)
}

pub fn start_agents(cluster: &mut Cluster) {
    (0..cluster.hosts.len()).for_each(|index| cluster.start_agent(index));
    cluster.settle();
}

/// Waits until `sextant node list` says that of a node; how long it took.
pub fn becomes(cluster: &Cluster, node: &str, liveness: &str) -> Duration {
    let started = Instant::now();
    poll(&format!("{node} is {liveness}"), VERDICT, || {
        let shown = cluster.node(node);
        if shown["liveness"] == liveness { Ok(()) } else { Err(shown.to_string()) }
    });
    let took = started.elapsed();
    eprintln!("{node} is shown as {liveness} after {took:?}");
    took
}

/// What `sextant status` says, in a line.
pub fn status(cluster: &Cluster) -> String {
    cluster.sextant(&["status"])
}

/// How a host's route to a node looks: `via …` or `unreachable`.
pub fn route_to(cluster: &Cluster, host: &Host, node: &str) -> String {
    let prefix = cluster.prefix(node).to_string();
    let routes = host.routes_of(66).unwrap();
    routes
        .into_iter()
        .find(|route| route.contains(&prefix))
        .unwrap_or_else(|| format!("no route to {prefix}"))
}

/// Waits for the way between two containers.
pub fn reaches(from: &sextant_tests::Container, to: &sextant_tests::Container) {
    poll("the path between them", 5 * SECONDS, || from.ping(to.address())?.replied());
}
