//! What routers announce to the hosts, and what these take of it.

use sextant_tests::{Frr, Host, MILLISECONDS, RouteMonitor, SECONDS, cluster::sorted, expect_text, poll};

use crate::bgp::Speakers;

/// What `ip` shows for routes of ours.
const OURS: u8 = 66;

/// FRR on the router, with neighbours in AS 65001 and 65003, and this for its IPv6.
pub fn frr(it: &Speakers, ipv6: &str) -> Frr {
    let hosts = [("2001:db8::1", 65001), ("2001:db8:0:b::3", 65003)];
    let neighbours = hosts
        .map(|(address, remote)| {
            format!(" neighbor {address} remote-as {remote}\n neighbor {address} timers connect 1\n")
        })
        .concat();
    let active =
        hosts.map(|(address, _)| format!("  neighbor {address} activate\n{}", ipv6.replace("HOST", address)));
    let config = format!(
        "router bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n{neighbours} address-family ipv6 unicast\n{} exit-address-family\nexit\n\
         ipv6 prefix-list back permit 2001:db8:e000::/36\n\
         route-map back permit 10\n match ipv6 address prefix-list back\n set as-path prepend 65003\nexit\n\
         route-map back permit 20\nexit\n",
        active.concat()
    );
    it.site.router.frr_with(&config).unwrap()
}

/// The routes that routers announced to a host, by its kernel.
fn imported(host: &Host) -> anyhow::Result<Vec<String>> {
    let routes = host.routes_of(OURS)?.into_iter().filter(|line| line.contains(" metric 768"));
    let short = |line: String| line.split(" proto ").next().unwrap_or_default().to_owned();
    Ok(sorted(routes.map(short).collect()))
}

/// Waits until a host has just these routes of routers.
pub fn expect(host: &Host, expected: &[&str]) {
    let expected = sorted(expected.iter().map(|&line| line.to_owned()).collect()).join("\n");
    let what = format!("what {} has of routers", host.name());
    expect_text(&what, 20 * SECONDS, &expected, || Ok::<_, anyhow::Error>(imported(host)?.join("\n")));
}

#[test]
fn a_default_route_or_all_that_is_no_loop_and_takes_nothing_from_the_hosts() {
    let mut it = Speakers::new("import: frr");
    // With the prefixes of an on-link address, of a container, and of what went through the host's own AS.
    let router = frr(
        &it,
        "  neighbor HOST default-originate\n  network 2001:db8:f000::/36\n  network 2001:db8:e000::/36\n  neighbor HOST route-map back out\n  \
         network 2001:db8:0:b::77/128\n  network 2001:db8::77/128\n",
    );
    it.start(0, "import = \"default\"");
    it.start(2, "import = \"all\"\nimport-filter = [\"::/0\"]");
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    expect(it.host(0), &["default via 2001:db8::fe:1 dev eth0"]);
    let other = format!("{} via 2001:db8:0:b::fe:1 dev eth0", it.prefix(0));
    expect(
        it.host(2),
        &[
            "default via 2001:db8:0:b::fe:1 dev eth0",
            "2001:db8:f000::/36 via 2001:db8:0:b::fe:1 dev eth0",
            "2001:db8::77/128 via 2001:db8:0:b::fe:1 dev eth0",
            &other,
        ],
    );
    it.says(2, "  5         ");
    let (_, counted) = it.site.cluster.agents[1].http("/metrics").unwrap();
    let name = "neighbour=\"2001:db8:0:b::fe:1\"";
    for expected in [
        format!("bgp_established{{{name}}} 1"),
        format!("bgp_prefixes_imported{{{name}}} 5"),
        format!("bgp_prefixes_announced{{{name}}} 1"),
        format!("bgp_notifications_total{{{name},direction=\"sent\"}} 0"),
    ] {
        assert!(counted.contains(&format!("sextant_agent_{expected}\n")), "{expected}: {counted}");
    }
    let output = router.ask("show bgp ipv6 unicast neighbors 2001:db8:0:b::3 advertised-routes").unwrap();
    for unwanted in ["2001:db8:e000::/36", "2001:db8:0:b::77/128"] {
        assert!(output.contains(unwanted), "FRR does not announce {unwanted}: {output}");
    }

    // Only the routers' routes are left.
    let (a, b) = (it.host(0).container("a").unwrap(), it.host(2).container("b").unwrap());
    for index in [0, 2] {
        it.host(index).ip("-6 route del default proto static").unwrap();
    }
    poll("a way by imported routes", 10 * SECONDS, || a.ping(b.address())?.replied());
}

/// What the old metric leaves behind is in use until the router is heard again.
#[test]
fn i5_a_changed_import_metric_drops_no_route() {
    let mut it = Speakers::new("import: metric");
    let frr = frr(&it, "  network 2001:db8:f000::/36\n");
    let all = "import = \"all\"\nimport-filter = [\"2001:db8:f000::/36\"]";
    it.start(0, all);
    it.site.becomes("h1", "ready");
    let route =
        |metric: u32| format!("2001:db8:f000::/36 via 2001:db8::fe:1 dev eth0 proto 66 metric {metric}");
    let h1 = it.host(0).clone();
    let has = |what: &str, expected: &[u32]| {
        let expected = expected.iter().map(|metric| route(*metric)).collect::<Vec<_>>().join("\n");
        expect_text(what, 20 * SECONDS, &expected, || {
            let routes =
                h1.routes_of(OURS)?.into_iter().filter(|line| line.starts_with("2001:db8:f000::/36"));
            anyhow::Ok(routes.collect::<Vec<_>>().join("\n"))
        });
    };
    has("the route of the router", &[768]);
    // While it is open, nothing that is left over goes.
    it.site.cluster.sextant(&["recover", "--finish"]);

    frr.bgpd.freeze().unwrap();
    it.site.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    it.start_with(0, "import-metric = 800", all);
    it.site.becomes("h1", "ready");
    it.site.cluster.sextant(&["wait", "--timeout", "20s"]);
    has("the old route, as the router is silent", &[768]);
    frr.bgpd.thaw().unwrap();
    has("the new route in its place", &[800]);
}

#[test]
fn i5_the_last_path_stays_without_its_router_and_goes_by_its_word() {
    let mut it = Speakers::new("import: two routers");
    let frr = frr(&it, "  network 2001:db8:f000::/36\n  network 2001:db8:f100::/40\n");
    let h2 = it.host(1).clone();
    let bird = |routes: &str| {
        let config = format!(
            "router id 192.0.2.2; protocol device {{ }}
             protocol static {{ ipv6; {routes} }}
             protocol bgp {{ local 2001:db8::2 as 65002; neighbor 2001:db8::1 as 65001; connect delay time 1;
                 connect retry time 1; error wait time 1, 2; ipv6 {{ import none; export all; }}; }}\n"
        );
        h2.bird_with(&config).unwrap()
    };
    let two = "route 2001:db8:f000::/36 unreachable; route 2001:db8:f200::/40 unreachable;";
    let second = bird(two);
    let more = "import = \"all\"\nimport-filter = [\"2001:db8:f000::/36\"]\n[[bgp.neighbour]]\naddress = \"2001:db8::2\"\n\
                remote-as = 65002\nhold-time = 3\nimport = \"all\"";
    it.start(0, more);
    it.site.becomes("h1", "ready");
    let via = |last: &str, prefix: &str| format!("2001:db8:{prefix} via 2001:db8::{last} dev eth0");
    let (f0, f1, f2) = (via("fe:1", "f000::/36"), via("fe:1", "f100::/40"), via("2", "f200::/40"));
    let h1 = it.host(0).clone();
    expect(&h1, &[&f0, &f1, &f2]);

    // Its router dies; another one has one of its paths.
    frr.bgpd.kill().unwrap();
    let f0 = via("2", "f000::/36");
    expect(&h1, &[&f0, &f1, &f2]);
    // The other one dies too, and the agent is killed and comes back: who is gone says nothing.
    let monitor = RouteMonitor::start(&h1).unwrap();
    second.process.kill().unwrap();
    drop(second);
    it.says(0, "closed the connection");
    it.site.cluster.agents.remove(0).process.kill().unwrap();
    it.start(0, more);
    it.site.becomes("h1", "ready");
    it.site.cluster.agents[0].process.wait_for_line("host is set up", 20 * SECONDS).unwrap();
    expect(&h1, &[&f0, &f1, &f2]);

    // It is back, and takes one back in a live session.
    let second = bird(two);
    it.says(0, "established");
    monitor.quiet_since(0).unwrap();
    second.ask("disable static1").unwrap();
    expect(&h1, &[&f1]);
    second.ask("enable static1").unwrap();
    expect(&h1, &[&f0, &f1, &f2]);
    assert!(monitor.removed("2001:db8:f200::/40".parse().unwrap(), 10 * MILLISECONDS).is_ok());
}

#[test]
fn a_router_that_announces_too_much_is_sent_away_and_says_why() {
    let mut it = Speakers::new("import: too much");
    let router = frr(
        &it,
        "  network 2001:db8:f000::/40\n  network 2001:db8:f100::/40\n  network 2001:db8:f200::/40\n",
    );
    it.start(0, "import = \"all\"\nimport-max = 2");
    it.site.becomes("h1", "ready");
    it.says(0, "it announces more than import-max = 2 prefixes; raise that in agent.toml");
    poll("FRR knows why", 5 * SECONDS, || {
        let output = router.ask("show bgp neighbors 2001:db8::1")?;
        if output.contains("Cease/Maximum Number of Prefixes Reached") {
            Ok(())
        } else {
            anyhow::bail!(output)
        }
    });
}
