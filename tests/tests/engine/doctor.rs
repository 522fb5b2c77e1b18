//! `sextant-agent doctor`, and the agent's report on its host at the start.

use std::{fs, process::Output};

use sextant_tests::{SECONDS, bin, poll};

use crate::{
    kept::value,
    testbed::{Testbed, text},
};

fn doctor(testbed: &Testbed, more: &[&str]) -> Output {
    let agent = bin("sextant-agent").unwrap().display().to_string();
    testbed.host().run(&[&[agent.as_str()], more, &["doctor"]].concat()).unwrap()
}

#[test]
fn each_problem_is_shown_with_its_fix_and_the_agent_warns_once() {
    let mut testbed = Testbed::start("doctor", 1);
    let sound = doctor(&testbed, &["--uplink", "eth0"]);
    assert_eq!((sound.status.code(), text(&sound).as_str()), (Some(0), "no problems found\n"));
    let rules = "add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                 add table inet firewalld; add chain inet firewalld filter_PREROUTING { type filter hook prerouting priority \
                 10; }; add rule inet firewalld filter_PREROUTING meta nfproto ipv6 fib saddr . mark . iif oif missing drop";
    testbed.host().check(&["nft", rules]).unwrap();
    let ill = doctor(&testbed, &["--uplink", "eth0,eth7"]);
    let printed = text(&ill);
    assert_eq!(ill.status.code(), Some(1), "{printed}");
    let expected = [
        "uplink \"eth7\" does not exist",
        "nftables chain ip6 filter FORWARD drops forwarded IPv6 packets",
        "nftables chain inet firewalld filter_PREROUTING drops packets without a route back to their source",
        "IPv6_rpfilter=loose",
        "problems to fix: 3",
    ];
    for part in expected {
        assert!(printed.contains(part), "no \"{part}\" in\n{printed}");
    }
    assert_eq!(printed.matches("  fix: ").count(), 3, "{printed}");

    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    testbed.cluster.start_agent(0);
    testbed.cluster.settle();
    let log = testbed.cluster.agents[0].process.log();
    let warnings = log.lines().filter(|line| line.contains("host check found a problem"));
    let named: Vec<_> = warnings.filter(|line| line.contains("nftables chain")).collect();
    assert_eq!(named.len(), 2, "{named:#?}");
}

/// Without `--uplink` the agent determines it, which a link that is down does not permit.
#[test]
fn an_uplink_that_is_down_is_named() {
    let testbed = Testbed::start("doctor down", 1);
    let host = testbed.host();
    let state = testbed.cluster.lab.state_dir(host).display().to_string();
    let controller = ["--state-dir", &state, "--controller", "http://[2001:db8::c:1]:7300"];
    let named = |more: &[&str], parts: &[&str]| {
        let printed = text(&doctor(&testbed, &[&controller, more].concat()));
        for part in parts {
            assert!(printed.contains(part), "no \"{part}\" in\n{printed}");
        }
        let last = printed.lines().last().unwrap_or_default();
        assert_eq!((last, printed.contains("earlier settings")), ("problems to fix: 1", false), "{printed}");
    };
    let ready = || testbed.cluster.agents[0].http("/metrics").unwrap().1;
    host.set_carrier(false).unwrap();
    named(&["--uplink", "eth0"], &["uplink eth0 has no carrier", "fix: check its cable"]);
    named(&[], &["uplink eth0 has no carrier"]);
    poll("the agent counts it", 10 * SECONDS, || {
        let metrics = ready();
        anyhow::ensure!(metrics.contains("sextant_agent_problems 1"), "{metrics}");
        Ok(())
    });
    host.set_carrier(true).unwrap();
    host.ip("link set eth0 down").unwrap();
    named(
        &["--uplink", "eth0"],
        &["uplink eth0 has no usable IPv6 address: the interface is down", "fix: `ip link set dev eth0 up`"],
    );
    named(&[], &["no uplink is configured", "eth0 (down)", "fix: bring up the one"]);
}

/// The controller is on the link, so that no status has it.
#[test]
fn what_keeps_a_disconnected_agent_from_its_controller_is_named() {
    let testbed = Testbed::start("doctor paths", 2);
    let host = testbed.host();
    let state = testbed.cluster.lab.state_dir(host).display().to_string();
    let doctor = |more: &[&str]| text(&doctor(&testbed, &[&["--state-dir", &state], more].concat()));
    let words = |printed: &str, words: &str| {
        assert!(printed.contains(words), "no \"{words}\" in\n{printed}");
        let fix = printed.split(words).nth(1).unwrap().split('`').nth(1).unwrap().to_owned();
        host.check(&["sh", "-c", &fix]).unwrap();
        assert_eq!(doctor(&["--uplink", "eth0"]), "no problems found\n", "after {fix}");
    };
    let controllers = ["--uplink", "eth0", "--controller", "http://[2001:db8::c:1]:7300"];
    for args in [&controllers[..], &controllers[2..]] {
        host.ip("-6 route flush dev eth0 proto kernel").unwrap();
        words(&doctor(args), "its route to 2001:db8::/64 was removed by another process");
    }
    host.ip("-6 address flush dev eth0 scope link").unwrap();
    words(&doctor(&["--uplink", "eth0"]), "uplink eth0 has no link-local address");
    let own = testbed.cluster.prefix("h1");
    for rule in [format!("from {own} prohibit"), "iif docker0 prohibit".to_owned()] {
        host.ip(&format!("-6 rule add {rule} pref 100")).unwrap();
        let named = "is evaluated before routing table 254 for packets of containers to other nodes";
        words(&doctor(&["--uplink", "eth0"]), named);
    }
    testbed.cluster.expect_full_mesh();
}

#[test]
fn a_rule_that_drops_what_ipv6_needs_is_named() {
    let testbed = Testbed::start("doctor icmpv6", 1);
    let rules = "add table ip6 f; add chain ip6 f i { type filter hook input priority 0; }; \
                 add rule ip6 f i icmpv6 type mld-listener-query drop; \
                 add rule ip6 f i iifname eth0 icmpv6 type { echo-request, nd-neighbor-solicit } counter drop";
    testbed.host().check(&["nft", rules]).unwrap();
    let printed = text(&doctor(&testbed, &["--uplink", "eth0"]));
    for part in [
        "nftables chain ip6 f i drops ICMPv6 mld-listener-query",
        "icmpv6 type mld-listener-query accept",
        "nftables chain ip6 f i drops ICMPv6 nd-neighbor-solicit",
        "problems to fix: 2",
    ] {
        assert!(printed.contains(part), "no \"{part}\" in\n{printed}");
    }
}

/// The kernel's limits of neighbours exist only in the machine's own network namespace. Here files replace them, visible only
/// to the doctor; its process namespace makes it take the host's network namespace as the machine's own.
#[test]
fn safe_fixes_are_applied_and_other_problems_are_only_shown() {
    let testbed = Testbed::start("doctor fixes", 2);
    let (host, neigh) = (testbed.host(), testbed.host().dir().join("neigh"));
    let limits = neigh.join("default");
    host.container("c").unwrap();
    poll("the agent has seen the container's link", 5 * SECONDS, || {
        let accept_ra = value(host, "ve1/accept_ra")?;
        anyhow::ensure!(accept_ra == "0", "{accept_ra}");
        anyhow::Ok(())
    });
    fs::create_dir_all(&limits).unwrap();
    let limit = |n: u8| fs::read_to_string(limits.join(format!("gc_thresh{n}"))).unwrap();
    for (n, value) in [(1, "1\n"), (2, "1\n"), (3, "2\n")] {
        fs::write(limits.join(format!("gc_thresh{n}")), value).unwrap();
    }
    host.check(&["nft", "add table ip6 site; add chain ip6 site FORWARD { type filter hook forward priority 0; policy drop; }"])
        .unwrap();
    let agent = bin("sextant-agent").unwrap().display().to_string();
    let doctor_in = |namespaces: &[&str], more: &str| {
        let neigh = neigh.display();
        let seen = format!(
            "mount --bind {neigh} /proc/sys/net/ipv6/neigh && exec {agent} --uplink eth0 doctor {more}"
        );
        host.run(&[&["unshare", "--mount"], namespaces, &["sh", "-c", &seen]].concat()).unwrap()
    };
    let doctor = |more: &str| doctor_in(&["--pid", "--fork", "--mount-proc"], more);
    let others = || {
        let ruleset = host.check(&["nft", "list", "ruleset"]).unwrap();
        // Some sysctls cannot be read.
        let all = "cd /proc/sys/net && grep -rs '' ipv6/conf ipv6/route core || true";
        let sysctls = host.check(&["sh", "-c", all]).unwrap();
        (ruleset, sysctls, host.routes().unwrap(), limit(1))
    };
    let (before, firewall) = (others(), "nftables chain ip6 site FORWARD drops forwarded IPv6 packets");

    let looked = doctor("");
    let printed = text(&looked);
    assert!(
        printed.contains("keeps 1 to 2 IPv6 neighbours, but 2 next hops and containers need entries"),
        "{printed}"
    );
    assert!(printed.contains(firewall) && printed.contains("problems to fix: 2"), "{printed}");
    assert_eq!((limit(2), limit(3)), ("1\n".into(), "2\n".into()), "it was to look only");

    let elsewhere = text(&doctor_in(&[], "--fix"));
    assert!(elsewhere.contains("problems to fix: 2") && !elsewhere.contains("done: "), "{elsewhere}");
    assert_eq!((limit(2), limit(3)), ("1\n".into(), "2\n".into()), "it was in a namespace of the machine");

    let fixed = doctor("--fix");
    let printed = text(&fixed);
    for part in
        ["done: net/ipv6/neigh/default/gc_thresh3 = 8", "gc_thresh2 = 4", firewall, "problems to fix: 1"]
    {
        assert!(printed.contains(part), "no \"{part}\" in\n{printed}");
    }
    assert_eq!((fixed.status.code(), limit(2), limit(3)), (Some(1), "4\n".into(), "8\n".into()));
    assert_eq!(printed.matches("  done: ").count(), 2, "{printed}");

    let again = text(&doctor("--fix"));
    assert!(
        again.contains(firewall) && again.contains("problems to fix: 1") && !again.contains("done: "),
        "{again}"
    );
    assert_eq!(others(), before, "what is not its own is as it was");
    host.check(&["nft", "delete table ip6 site"]).unwrap();
    let sound = doctor("--fix");
    assert_eq!((sound.status.code(), text(&sound).as_str()), (Some(0), "no problems found\n"));
}
