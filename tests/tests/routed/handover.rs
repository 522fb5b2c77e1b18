//! Routing daemons that are there already, by the very files that users copy from `deploy/bird` and `deploy/frr`.

use std::path::PathBuf;

use sextant_tests::{Bird, Host, SECONDS, cluster::sorted, expect_text, poll};

use crate::site::{Site, options};

/// What `ip` shows for a route that BIRD made.
const BIRD: u8 = 12;

/// A file that users copy.
fn deployed(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(path)
}

/// A BIRD that takes all that it gets from `peer` into the kernel.
fn receiver(host: &Host, local: (&str, u32), peer: (&str, u32)) -> Bird {
    let config = format!(
        "router id 192.0.2.200;
         protocol device {{ }}
         protocol kernel {{ scan time 1; ipv6 {{ import none; export all; }}; }}
         protocol bgp peer {{
             local {} as {}; neighbor {} as {};
             connect delay time 1; connect retry time 1; error wait time 1, 2;
             ipv6 {{ import all; export none; }};
         }}",
        local.0, local.1, peer.0, peer.1
    );
    host.bird_with(&config).unwrap()
}

fn receives(host: &Host, expected: &[String]) {
    expect_text("what was exported", 40 * SECONDS, &expected.join("\n"), || {
        host.routes_of(BIRD).map(|routes| sorted(routes).join("\n"))
    });
}

/// h1, whose prefix is marked, between other hosts' routes, unreachables, and routes of others.
fn marked(test: &str, args: &[&str]) -> Site {
    marked_in(Site::new(test), args, &[])
}

/// As [`marked`], with prefixes of two pools on each host.
fn marked_in_two_pools(test: &str, args: &[&str]) -> Site {
    let site = Site::new(test);
    let lengths = ["--host-len", "64", "--container-len", "80"];
    site.cluster.sextant(&[&["pool", "add", "ula", "fd00:5e::/40"][..], &lengths].concat());
    let pools = ["--pool", "main,ula"];
    marked_in(site, &[args, &pools].concat(), &pools)
}

fn marked_in(mut site: Site, of_h1: &[&str], of_others: &[&str]) -> Site {
    for (index, more) in [(0, of_h1), (1, of_others), (2, of_others)] {
        // Switched, so that the pool's aggregate and the peers are there too.
        let agent = site.cluster.lab.agent(&site.cluster.hosts[index], options(more)).unwrap();
        site.cluster.agents.push(agent);
    }
    site.cluster.settle();
    site.cluster.hosts[0]
        .ip("-6 route add unreachable 2001:db8:8000:7777::/64 proto static metric 5")
        .unwrap();
    site
}

/// The router gets h1's prefix alone; not while it is drained.
fn exports_the_own_prefix_while_announced(site: &Site) {
    let _receiver = receiver(&site.router, ("2001:db8::fe:1", 65000), ("2001:db8::1", 65001));
    let own = format!("{} via 2001:db8::1 dev eth0 proto 12 metric 32", site.cluster.prefix("h1"));
    receives(&site.router, std::slice::from_ref(&own));
    site.cluster.sextant(&["node", "drain", "h1", "--timeout", "20s"]);
    receives(&site.router, &[]);
    site.cluster.sextant(&["node", "undrain", "h1", "--timeout", "20s"]);
    receives(&site.router, &[own]);
}

/// The router gets h1's prefixes of both pools alone; after the end of one claim, the other one's.
fn exports_the_prefix_of_each_claim(site: &Site) {
    let _receiver = receiver(&site.router, ("2001:db8::fe:1", 65000), ("2001:db8::1", 65001));
    let claims = || site.cluster.node("h1")["claims"].as_array().cloned().unwrap_or_default();
    poll("prefixes of both pools", 20 * SECONDS, || {
        let claims = claims();
        let ready = claims.iter().filter(|claim| claim["claim_state"] == "ready").count();
        if ready == 2 { Ok(()) } else { Err(format!("{claims:?}")) }
    });
    let via = |prefix: &str| format!("{prefix} via 2001:db8::1 dev eth0 proto 12 metric 32");
    let both = claims().iter().map(|claim| via(claim["host_prefix"].as_str().unwrap())).collect();
    receives(&site.router, &sorted(both));
    site.cluster.sextant(&["pool", "drain", "ula"]);
    site.cluster.sextant(&["node", "forget", "h1", "--pool", "ula", "--force"]);
    receives(&site.router, &[via(&site.cluster.prefix("h1").to_string())]);
}

#[test]
fn bird_on_a_host_exports_a_prefix_of_each_pool() {
    let site = marked_in_two_pools("bird on a host: pools", &["--export-table", "66"]);
    let _bird = site.cluster.hosts[0].bird(&deployed("bird/host.conf")).unwrap();
    exports_the_prefix_of_each_claim(&site);
}

#[test]
fn frr_on_a_host_exports_a_prefix_of_each_pool() {
    let site = marked_in_two_pools("frr on a host: pools", &["--export-table", "254"]);
    let config = std::fs::read_to_string(deployed("frr/host.conf")).unwrap();
    let line = "ipv6 prefix-list sextant-hosts seq 10 permit fd00:5e::/40 ge 64 le 64";
    let _frr = site.cluster.hosts[0].frr_with(&format!("{config}{line}\n")).unwrap();
    exports_the_prefix_of_each_claim(&site);
}

#[test]
fn bird_on_a_host_exports_its_own_prefix_and_only_that() {
    let site = marked("bird on a host", &["--export-table", "66"]);
    let _bird = site.cluster.hosts[0].bird(&deployed("bird/host.conf")).unwrap();
    exports_the_own_prefix_while_announced(&site);
}

#[test]
fn frr_on_a_host_exports_its_own_prefix_and_only_that() {
    let site = marked("frr on a host", &["--export-table", "254"]);
    let _frr = site.cluster.hosts[0].frr(&deployed("frr/host.conf")).unwrap();
    exports_the_own_prefix_while_announced(&site);
}

/// A router with an agent, and an upstream router that gets what the first one's daemon exports.
fn upstream(test: &str) -> (Site, sextant_tests::Agent, Host) {
    let mut site = Site::new(test);
    let agent = site.start_router();
    (0..3).for_each(|index| site.start_host(index, &[]));
    site.cluster.settle();
    site.router.ip("-6 route add 2001:db8:8000:7777::/64 via 2001:db8::9 proto static metric 5").unwrap();
    let upstream = site.cluster.lab.host("upstream").unwrap();
    upstream.ip("address add 2001:db8::fe:2/64 dev eth0 nodad").unwrap();
    (site, agent, upstream)
}

/// Upstream gets all hosts' prefixes and nothing else; not that of a drained one.
fn exports_the_hosts_prefixes(site: &Site, upstream: &Host) {
    let _receiver = receiver(upstream, ("2001:db8::fe:2", 64999), ("2001:db8::fe:1", 65000));
    let via = |name: &str| {
        let prefix = site.cluster.prefix(name);
        format!("{prefix} via 2001:db8::fe:1 dev eth0 proto 12 metric 32")
    };
    let all = |names: &[&str]| sorted(names.iter().map(|name| via(name)).collect());
    receives(upstream, &all(&["h1", "h2", "h3"]));
    site.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    receives(upstream, &all(&["h1", "h3"]));
}

#[test]
fn bird_on_a_router_exports_the_hosts_prefixes_and_only_those() {
    let (site, _agent, upstream) = upstream("bird on a router");
    let _bird = site.router.bird(&deployed("bird/router.conf")).unwrap();
    exports_the_hosts_prefixes(&site, &upstream);
}

#[test]
fn frr_on_a_router_exports_the_hosts_prefixes_and_only_those() {
    let (site, _agent, upstream) = upstream("frr on a router");
    let _frr = site.router.frr(&deployed("frr/router.conf")).unwrap();
    exports_the_hosts_prefixes(&site, &upstream);
}
