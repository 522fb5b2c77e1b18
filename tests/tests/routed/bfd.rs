//! BFD between the agents and real routers. Not with GoBGP, which has none.

use std::time::Duration;

use sextant_proto::Prefix;
use sextant_tests::{MILLISECONDS, RouteMonitor, SECONDS, poll};

use crate::bgp::{Speakers, frr};

/// No hold time is so short that it could be mistaken for BFD.
const WATCHED: &str = "bfd = true\nrestart-time = 0\nhold-time = 90";

/// Cuts host `index` off, and tells how long the router's kernel had its route after that.
fn dies(it: &Speakers, index: usize, monitor: &RouteMonitor) -> Duration {
    let prefix: Prefix = it.prefix(index);
    let cut = std::time::SystemTime::now();
    it.host(index).isolate().unwrap();
    let gone = monitor.removed(prefix, 10 * SECONDS).unwrap();
    gone.after(cut)
}

/// How often the way to h3's neighbour has failed, by the metrics of the agent that was started as the `nth`.
fn failures(it: &Speakers, nth: usize) -> u32 {
    let (_, metrics) = it.site.cluster.agents[nth].http("/metrics").unwrap();
    let name = "sextant_agent_bfd_failures_total{neighbour=\"2001:db8:0:b::fe:1\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

#[test]
fn a_dead_host_is_gone_from_frr_within_half_a_second_and_back_once_it_is() {
    let mut it = Speakers::new("bfd: frr");
    let watched = ["2001:db8::1", "2001:db8::2", "2001:db8:0:b::3"]
        .map(|address| format!(" neighbor {address} bfd 3 100 100\n"))
        .concat();
    let router = frr(&it.site, &watched);
    [0, 2].into_iter().for_each(|index| it.start(index, WATCHED));
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    it.expect_in_router(&[0, 2]);
    it.says(0, "  up  ");
    it.says(2, "  up  ");
    let monitor = RouteMonitor::start(&it.site.router).unwrap();
    // FRR may have ended a session and its BFD right after its own start.
    let (before, logged) = (failures(&it, 1), it.site.cluster.agents[1].process.log_len());
    let took = dies(&it, 2, &monitor);
    eprintln!("a dead host is gone from FRR after {took:?}");
    assert!(took < 500 * MILLISECONDS, "FRR had the route of a dead host for {took:?}");
    let agent = &it.site.cluster.agents[1].process;
    agent.wait_for_line_after(logged, "path to the neighbour failed", SECONDS).unwrap();
    assert_eq!(failures(&it, 1), before + 1);

    let (_, counted) = it.site.cluster.agents[1].http("/metrics").unwrap();
    for expected in ["bgp_established{N} 0", "bfd_up{N} 0"] {
        let expected = expected.replace("{N}", "{neighbour=\"2001:db8:0:b::fe:1\"}");
        assert!(counted.contains(&format!("sextant_agent_{expected}\n")), "{expected}: {counted}");
    }

    // FRR may have ended one session more, right after its start.
    let flaps = "sextant_agent_bgp_flaps_total{neighbour=\"2001:db8:0:b::fe:1\"} ";
    assert!(counted.contains(flaps) && !counted.contains(&format!("{flaps}0\n")), "{counted}");

    it.host(2).reconnect().unwrap();
    it.expect_in_router(&[0, 2]);
    it.says(2, "  up  ");

    // A stopped host announces it.
    assert!(it.site.cluster.agents[0].process.terminate(5 * SECONDS).unwrap().success());
    poll("FRR knows that h1 went down on purpose", 5 * SECONDS, || {
        let output = router.ask("show bfd peer 2001:db8::1")?;
        if output.contains("Remote diagnostics: administratively down") {
            Ok(())
        } else {
            anyhow::bail!(output)
        }
    });
}

#[test]
fn a_dead_host_is_gone_from_bird_within_half_a_second_and_a_dead_router_is_noticed() {
    let mut it = Speakers::new("bfd: bird");
    let session = |own: &str, address: &str, remote: u32| {
        format!(
            "protocol bgp {{ local {own} as 65000; neighbor {address} as {remote}; connect delay time 1;
             connect retry time 1; error wait time 1, 2; bfd on; ipv6 {{ import all; export none; }}; }}\n"
        )
    };
    let bird = it.site.router.bird_with(&format!(
        "router id 192.0.2.200; protocol device {{ }}
         protocol kernel {{ scan time 1; ipv6 {{ import none; export all; }}; }}
         protocol bfd {{ interface \"eth*\" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }}; }}
         {}{}",
        session("2001:db8::fe:1", "2001:db8::1", 65001),
        session("2001:db8:0:b::fe:1", "2001:db8:0:b::3", 65003),
    ));
    let bird = bird.unwrap();
    [0, 2].into_iter().for_each(|index| it.start(index, WATCHED));
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    it.expect_in_router(&[0, 2]);
    it.says(0, "  up  ");
    it.says(2, "  up  ");
    let monitor = RouteMonitor::start(&it.site.router).unwrap();
    let took = dies(&it, 2, &monitor);
    eprintln!("a dead host is gone from BIRD after {took:?}");
    assert!(took < 500 * MILLISECONDS, "BIRD had the route of a dead host for {took:?}");

    bird.process.kill().unwrap();
    drop(bird);
    it.says(0, "  down  ");
    it.site.cluster.agents[0].process.wait_for_line("path to the neighbour failed", SECONDS).unwrap();
}
