//! `sextant trace`: the place of a fault, and a fix that works.

use std::fmt::Write as _;

use anyhow::ensure;
use serde_json::Value;
use sextant_tests::{SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

/// Of the two directions: h1 → h2, and h2 → h1.
const THERE: usize = 0;
const BACK: usize = 1;

/// A fault on a host, and the expected trace.
struct Breakage {
    host: usize,
    by: String,
    /// Which directions are broken.
    broken: &'static [usize],
    /// Where; empty: between the two.
    at: &'static str,
    why: String,
    fix: String,
    /// What is taken away by hand afterwards, where the fix is none that a test can do.
    undo: &'static str,
}

struct Traced {
    code: i32,
    text: String,
    directions: [Value; 2],
}

fn trace(cluster: &Cluster) -> anyhow::Result<Traced> {
    let out = cluster.lab.cli(&["-o", "json", "trace", "h1", "h2"])?;
    let text = format!("{}{}", out.stdout, out.stderr);
    let value: Value = serde_json::from_str(&out.stdout).map_err(|_| anyhow::anyhow!("{out:?}"))?;
    Ok(Traced { code: out.code, text, directions: [0, 1].map(|index| value["directions"][index].clone()) })
}

impl Traced {
    /// Just these directions are broken, there, for this reason.
    fn is_broken(&self, broken: &[usize], at: &str, why: &str) -> anyhow::Result<()> {
        for (index, direction) in self.directions.iter().enumerate() {
            let expected = if broken.contains(&index) { "broken" } else { "works" };
            ensure!(direction["verdict"] == expected, "direction {index} is not {expected}: {}", self.text);
        }
        for direction in broken.iter().map(|index| &self.directions[*index]) {
            let (seen_at, seen_why) = (&direction["at"], direction["why"].as_str().unwrap_or_default());
            ensure!(seen_at.as_str().unwrap_or_default() == at, "not at {at:?}: {}", self.text);
            ensure!(seen_why.contains(why), "not {why:?}: {}", self.text);
        }
        Ok(())
    }
}

/// Applies a fix, as an operator would.
fn follow(cluster: &Cluster, fix: &str) {
    match fix.split_once(": ") {
        Some((place, command)) => {
            let name = place.strip_prefix("on ").unwrap_or_else(|| panic!("{fix}"));
            let host = cluster.hosts.iter().find(|host| host.name() == name).unwrap();
            host.check(&["sh", "-ec", command]).unwrap();
        }
        None => drop(cluster.sextant(&fix.split(' ').skip(1).collect::<Vec<_>>())),
    }
}

fn works(cluster: &Cluster) {
    poll("the way works in both directions", 20 * SECONDS, || {
        let traced = trace(cluster)?;
        ensure!(traced.code == 0, "{}", traced.text);
        traced.is_broken(&[], "", "")
    });
}

impl Breakage {
    fn meets(self, cluster: &Cluster) {
        let Self { host, by, broken, at, why, fix, undo } = self;
        cluster.hosts[host].check(&["sh", "-ec", &by]).unwrap();
        let seen = poll(&format!("after `{by}`: {why}"), 20 * SECONDS, || {
            let traced = trace(cluster)?;
            traced.is_broken(broken, at, &why)?;
            ensure!(traced.code == 1, "{}", traced.text);
            let seen = traced.directions[broken[0]]["fix"].as_str().unwrap_or_default().to_owned();
            ensure!(seen.starts_with(&fix), "not {fix:?}: {}", traced.text);
            Ok(seen)
        });
        if undo.is_empty() {
            follow(cluster, &seen);
        } else {
            cluster.hosts[host].check(&["sh", "-ec", undo]).unwrap();
        }
        works(cluster);
    }
}

fn breakages(cluster: &Cluster) -> Vec<Breakage> {
    let (p1, p2) = (cluster.prefix("h1"), cluster.prefix("h2"));
    let nothing = || Breakage {
        host: 1,
        by: String::new(),
        broken: &[THERE, BACK],
        at: "h2",
        why: String::new(),
        fix: String::new(),
        undo: "",
    };
    vec![
        Breakage {
            host: 0,
            by: format!("ip -6 route add {p2} via 2001:db8::99 dev eth0 proto static metric 100"),
            broken: &[THERE],
            at: "h1",
            why: format!("a route of proto static is preferred to ours: {p2} via 2001:db8::99 dev eth0"),
            fix: format!("on h1: ip -6 route del {p2} proto static metric 100"),
            ..nothing()
        },
        Breakage {
            host: 0,
            by: "ip -6 neigh replace 2001:db8::2 lladdr 02:00:00:00:00:99 nud permanent dev eth0".into(),
            broken: &[THERE],
            at: "h1",
            why: "2001:db8::2 dev eth0 lladdr 02:00:00:00:00:99 PERMANENT, static".into(),
            fix: "on h1: ip -6 neigh del 2001:db8::2 dev eth0".into(),
            ..nothing()
        },
        Breakage {
            by: format!(
                "ip -6 rule add pref 100 to {p1} table 1077; ip -6 route add unreachable default table 1077"
            ),
            broken: &[BACK],
            why: format!("ip -6 rule 100 (from all to {p1} lookup 1077) is evaluated before our table: unreachable default"),
            fix: format!("on h2: ip -6 rule add to {p1} lookup 254 pref 99"),
            ..nothing()
        },
        // Probes arrive: the host's own addresses are looked up before any rule of this kind.
        Breakage {
            by: format!("ip -6 rule add pref 110 from {p1} prohibit"),
            broken: &[THERE],
            why: format!("rule 110: from {p1} prohibit is evaluated before routing table 254 for packets of other nodes to containers"),
            fix: format!("on h2: remove the rule (`ip -6 rule del pref 110 from {p1} prohibit`)"),
            undo: "ip -6 rule del pref 110",
            ..nothing()
        },
        Breakage {
            by: format!("ip -6 rule add pref 110 iif eth0 to {p2} lookup 1078; ip -6 route add blackhole default table 1078"),
            broken: &[THERE],
            why: "for packets of other nodes to containers: those to".into(),
            fix: "on h2: remove the rule (`ip -6 rule del pref 110 from all to".into(),
            undo: "ip -6 rule del pref 110; ip -6 route flush table 1078",
            ..nothing()
        },
        Breakage {
            by: "nft add table ip6 filter; nft add chain ip6 filter FORWARD '{ type filter hook forward priority 0; \
                 policy drop; }'"
                .into(),
            why: "nftables chain ip6 filter FORWARD drops all forwarded packets".into(),
            fix: format!("on h2: nft insert rule ip6 filter FORWARD ip6 daddr {} accept", GUIDE.prefix),
            ..nothing()
        },
        Breakage {
            by: format!(
                "nft add table ip6 lost; nft add chain ip6 lost in '{{ type filter hook prerouting priority 0; }}'; \
                 nft add rule ip6 lost in ip6 saddr {p1} drop"
            ),
            broken: &[THERE],
            at: "",
            why: "0 of 3 probes arrived at h2".into(),
            fix: "on h1 and h2: nft list ruleset".into(),
            undo: "nft delete table ip6 lost",
            ..nothing()
        },
        Breakage {
            by: format!(
                "nft add table ip6 kept; nft add chain ip6 kept out '{{ type filter hook output priority 0; }}'; \
                 nft add rule ip6 kept out ip6 daddr {p1} icmpv6 type echo-request drop"
            ),
            broken: &[BACK],
            why: "the kernel refuses to send probes: a firewall's OUTPUT chain drops them".into(),
            fix: "nft list ruleset".into(),
            undo: "nft delete table ip6 kept",
            ..nothing()
        },
        Breakage {
            by: format!(
                "nft add table ip6 no; nft add chain ip6 no in '{{ type filter hook input priority 0; }}'; nft add rule \
                 ip6 no in ip6 saddr {p1} reject with icmpv6 type admin-prohibited"
            ),
            broken: &[THERE],
            why: "ICMPv6 administratively prohibited, by h2".into(),
            fix: "nft list ruleset".into(),
            undo: "nft delete table ip6 no",
            ..nothing()
        },
    ]
}

#[test]
fn a_trace_names_the_fault_its_place_its_direction_and_its_fix() {
    let mut cluster = Cluster::start("trace", 2, GUIDE);
    works(&cluster);
    let text = cluster.sextant(&["trace", "h1", "h2"]);
    let (p1, p2) = (cluster.prefix("h1").first_host(), cluster.prefix("h2").first_host());
    for expected in [
        "h1 → h2 works\n".to_owned(),
        "h2 → h1 works\n".to_owned(),
        format!("{p1} to {p2}: 3 of 3 answered in 0."),
        format!("{p2} to {p1}: 3 of 3 answered in 0."),
        "2001:db8::2 dev eth0 lladdr 02:00:00:00:00:02 REACHABLE".to_owned(),
    ] {
        assert!(text.contains(&expected), "no {expected:?} in:\n{text}");
    }
    for breakage in breakages(&cluster) {
        breakage.meets(&cluster);
    }

    // What the agent would fix at once stays broken while it may not.
    cluster.sextant(&["pause"]);
    cluster.agents[1].process.wait_for_line("paused by an operator", 5 * SECONDS).unwrap();
    Breakage {
        host: 1,
        by: "sysctl -qw net.ipv6.conf.all.forwarding=0".into(),
        broken: &[THERE, BACK],
        at: "h2",
        why: "net.ipv6.conf.all.forwarding is 0".into(),
        fix: "on h2: sysctl -w net.ipv6.conf.all.forwarding=1".into(),
        undo: "",
    }
    .meets(&cluster);
    Breakage {
        host: 1,
        by: format!("ip -6 addr del {p2}/80 dev docker0; ip -6 route del {} proto 66", cluster.prefix("h1")),
        broken: &[THERE, BACK],
        at: "h2",
        why: "docker0 has no address of".into(),
        fix: "sextant resume".into(),
        undo: "",
    }
    .meets(&cluster);

    cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    let drained = trace(&cluster).unwrap();
    drained.directions[THERE]["why"].as_str().filter(|why| why.contains("h2 is drained")).unwrap();
    assert_eq!((drained.code, &drained.directions[THERE]["at"]), (1, &"h1".into()), "{}", drained.text);
    assert_eq!(drained.directions[THERE]["fix"], "sextant node undrain h2", "{}", drained.text);
    assert_eq!(drained.directions[BACK]["at"], "h2", "{}", drained.text);
    follow(&cluster, "sextant node undrain h2");
    works(&cluster);

    half_of_it_is_shown(&mut cluster);
}

/// Without an agent at one end.
fn half_of_it_is_shown(cluster: &mut Cluster) {
    drop(cluster.agents.pop());
    let half = poll("the agent of h2 is missed", 10 * SECONDS, || {
        let traced = trace(cluster)?;
        ensure!(traced.code == 5 && traced.text.contains("no agent of node"), "{}", traced.text);
        Ok(traced)
    });
    // Its host forwards all the same.
    half.is_broken(&[], "", "").unwrap();
    cluster.hosts[1].isolate().unwrap();
    poll("the dead next hop is seen", 30 * SECONDS, || {
        let traced = trace(cluster)?;
        let there = &traced.directions[THERE];
        let why = there["why"].as_str().unwrap_or_default();
        let named = there["at"] == "h1" && why.contains("does not answer");
        ensure!(traced.code == 5 && there["verdict"] == "broken" && named, "{}", traced.text);
        Ok(())
    });

    let mut printed = String::new();
    for (args, code) in [(["trace", "h1", "h9"], 3), (["trace", "h9", "h1"], 3), (["trace", "h1", "h1"], 2)] {
        let out = cluster.lab.cli(&args).unwrap();
        assert_eq!((out.code, out.stdout.as_str()), (code, ""), "{out:?}");
        write!(printed, "{}", out.stderr).unwrap();
    }
    assert!(
        printed.contains("no node and no running container that an agent sees is named \"h9\"")
            && printed.contains("both ends are \"h1\"; name two"),
        "{printed}"
    );
}
