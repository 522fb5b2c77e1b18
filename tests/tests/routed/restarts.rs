//! The router's daemon is killed and started again: its kernel keeps the routes, and no packet is lost.

use sextant_tests::{Container, MILLISECONDS, RouteMonitor, SECONDS, UdpStream, poll};

use crate::bgp::{Speakers, bird_config, frr};

/// A stream from a container of h1 to one of h3, through the router, whose kernel is watched.
struct Watch {
    monitor: RouteMonitor,
    stream: UdpStream,
    _containers: [Container; 2],
}

impl Watch {
    fn start(it: &Speakers) -> Self {
        let (a, b) = (it.host(0).container("a").unwrap(), it.host(2).container("b").unwrap());
        poll("a way through the router", 10 * SECONDS, || a.ping(b.address())?.replied());
        let monitor = RouteMonitor::start(&it.site.router).unwrap();
        let stream = a.udp_stream(&b, 5 * MILLISECONDS).unwrap();
        Self { monitor, stream, _containers: [a, b] }
    }

    /// After a restart: the sessions of these hosts are new, everything is announced again, and nothing was missing in between.
    fn finish(self, it: &Speakers, hosts: &[usize], since: &[u64]) {
        poll("new sessions, everything announced again", 30 * SECONDS, || {
            let now = established_since(it);
            let new = now.len() == since.len() && now.iter().zip(since).all(|(now, before)| now > before);
            if new { Ok(()) } else { Err(format!("{now:?}, and before {since:?}")) }
        });
        it.expect_in_router(hosts);
        self.stream.flows(200, 10 * SECONDS).unwrap();
        self.stream.finish().unwrap().nothing_lost().unwrap();
        let events = self.monitor.events().unwrap();
        let gone: Vec<_> = events.iter().filter(|event| event.gone).collect();
        assert!(gone.is_empty(), "the router took routes away: {gone:?}");
    }
}

/// The start of each established session whose host has announced its prefix.
fn established_since(it: &Speakers) -> Vec<u64> {
    let all = it.site.cluster.lab.cli_json(&["bgp"]).unwrap();
    let stands = |it: &&serde_json::Value| it["state"] == "established" && it["sent"].as_u64() >= Some(1);
    let since = |it: &serde_json::Value| it["since_unix_ms"].as_u64().unwrap();
    all.as_array().into_iter().flatten().filter(stands).map(since).collect()
}

/// So many sessions, once they stand.
fn established(it: &Speakers, count: usize) -> Vec<u64> {
    poll(&format!("{count} sessions"), 20 * SECONDS, || {
        let since = established_since(it);
        if since.len() == count { Ok(since) } else { Err(format!("{since:?}")) }
    })
}

/// With one speaker: FRR 8.4 takes the first End-of-RIB for that of all, and then sweeps what the others have not announced yet.
#[test]
fn frr_killed_and_started_again_costs_no_packet() {
    let mut it = Speakers::new("bgp: FRR restarts");
    let mut router = frr(&it.site, " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n");
    it.site.start_host(0, &[]);
    it.start(2, "");
    ["h1", "h3"].iter().for_each(|name| it.site.becomes(name, "ready"));
    let back = format!("-6 route add {} via {} proto static", it.prefix(0), it.host(0).address());
    it.site.router.ip(&back).unwrap();
    it.expect_in_router(&[2]);
    let since = established(&it, 1);
    let watch = Watch::start(&it);
    router.kill_bgpd().unwrap();
    watch.stream.flows(200, 10 * SECONDS).unwrap();
    router.start_bgpd().unwrap();
    watch.finish(&it, &[2], &since);
}

#[test]
fn bird_killed_and_started_again_costs_no_packet() {
    let mut it = Speakers::new("bgp: BIRD restarts");
    let config = bird_config("graceful restart on;");
    let router = it.site.router.bird_with(&config).unwrap();
    (0..3).for_each(|index| it.start(index, "ttl-security = true"));
    it.site.cluster.settle();
    it.expect_in_router(&[0, 1, 2]);
    let since = established(&it, 3);
    let watch = Watch::start(&it);
    router.process.kill().unwrap();
    watch.stream.flows(200, 10 * SECONDS).unwrap();
    let router = it.site.router.bird_recovering(&config).unwrap();
    watch.finish(&it, &[0, 1, 2], &since);
    it.h3s_agent_restarts("ttl-security = true", &[0, 1, 2]);
    poll("BIRD has recovered", 20 * SECONDS, || {
        let output = router.ask("show status")?;
        anyhow::ensure!(
            output.contains("Daemon is up and running") && !output.contains("recovery in progress"),
            "{output}"
        );
        anyhow::Ok(())
    });
}
