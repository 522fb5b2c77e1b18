//! Hosts with link-local next hops.

use std::time::Duration;

use sextant_tests::{
    AgentOptions, Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

fn link_local(host: &Host) -> String {
    let shown = host.ip("-6 -o address show dev eth0 scope link").unwrap();
    shown.split_whitespace().nth(3).unwrap().trim_end_matches("/64").to_owned()
}

/// Waits until host `from` has this route to host `to`.
fn leads(cluster: &Cluster, from: usize, to: &str, how: &str, deadline: Duration) {
    let prefix = cluster.prefix(to);
    let expected =
        if how == "unreachable" { format!("unreachable {prefix} ") } else { format!("{prefix} {how} ") };
    poll(&expected, deadline, || {
        let routes = cluster.hosts[from].routes_of(66)?;
        let found = routes.iter().any(|route| route.starts_with(&expected) && route.ends_with(" metric 512"));
        anyhow::ensure!(found, "{routes:#?}");
        anyhow::Ok(())
    });
}

/// h1 and h2 announce their link-local addresses, h3 its global one; all peers use these as next hops.
#[test]
fn i11_link_local_and_global_next_hops_work_together() {
    let mut cluster = Cluster::with_short_down_after("link-local", 3, GUIDE);
    for index in 0..3 {
        let kind = if index < 2 { "link-local" } else { "global" };
        let args = ["--uplink-next-hop", kind].map(str::to_owned).to_vec();
        cluster.start_agent_with(index, AgentOptions { args, ..AgentOptions::default() });
    }
    cluster.settle();
    let of: Vec<_> =
        cluster.hosts.iter().map(|host| format!("via {} dev eth0 proto 66", link_local(host))).collect();
    let of_h3 = format!("via {} dev eth0 proto 66", cluster.hosts[2].address());
    for (from, to, how) in [(0, "h2", &of[1]), (2, "h2", &of[1]), (1, "h1", &of[0]), (0, "h3", &of_h3)] {
        leads(&cluster, from, to, how, 10 * SECONDS);
    }
    let containers: Vec<_> = cluster.hosts.iter().map(|host| host.container("c").unwrap()).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let target = containers[to].address();
        poll("the path between them", 10 * SECONDS, || containers[from].ping(target)?.replied());
    }
    let listed = cluster.sextant(&["route", "list", "--node", "h1"]);
    assert!(listed.contains(&link_local(&cluster.hosts[1])), "{listed}");

    // The agent is dead: peers probe the host at its link-local address. Then the host is isolated.
    cluster.agents[1].process.kill().unwrap();
    let seen = |what: &str| {
        poll(what, 20 * SECONDS, || {
            let status = cluster.sextant(&["status"]);
            anyhow::ensure!(status.contains(what), "{status}");
            anyhow::Ok(())
        });
    };
    seen("forwarding without agent");
    leads(&cluster, 0, "h2", &of[1], SECONDS);
    containers[0].ping(containers[1].address()).unwrap().replied().unwrap();
    cluster.hosts[1].isolate().unwrap();
    leads(&cluster, 0, "h2", "unreachable", 30 * SECONDS);
    leads(&cluster, 2, "h2", "unreachable", 30 * SECONDS);
    leads(&cluster, 0, "h3", &of_h3, SECONDS);
}
