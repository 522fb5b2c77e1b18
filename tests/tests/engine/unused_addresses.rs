//! Packets to unused addresses: they must not fill the kernel's neighbour table, which all hosts of a machine share.
//!
//! See the floods of the lab: these tests do not fill it either.

use std::{fs, net::Ipv6Addr, path::Path};

use sextant_proto::Prefix;
use sextant_tests::{
    BRIDGE, Container, Host, MILLISECONDS, SECONDS, bin,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::{kept::expect_status, neighbour_table, testbed::text};

/// The addresses of the host's neighbour entries in these states (`ip neighbour show nud`), with their interfaces.
fn neighbours(host: &Host, states: &str) -> Vec<(Ipv6Addr, String)> {
    let shown = host.ip(&format!("-6 neighbour show {states}")).unwrap();
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        Some((words.first()?.parse().ok()?, (*words.get(2)?).to_owned()))
    };
    shown.lines().filter_map(entry).collect()
}

fn unanswered(host: &Host, interface: &str) -> usize {
    neighbours(host, "nud incomplete").iter().filter(|(_, of)| of == interface).count()
}

fn limits(host: &Host, interface: &str) -> anyhow::Result<String> {
    let of = |name: &str| host.check(&["cat", &format!("/proc/sys/net/ipv6/neigh/{interface}/{name}")]);
    Ok(format!("{} {}", of("retrans_time_ms")?.trim(), of("unres_qlen_bytes")?.trim()))
}

fn expect_limits(host: &Host, interface: &str) {
    poll(&format!("neighbours of {interface} are limited"), 10 * SECONDS, || {
        let limits = limits(host, interface)?;
        anyhow::ensure!(limits == "100 65536", "{limits}");
        anyhow::Ok(())
    });
}

/// The parts of a host prefix: the container prefix, and the next one of the same length.
fn parts(cluster: &Cluster, node: &str) -> [Prefix; 2] {
    [0, 1].map(|n| cluster.prefix(node).nth(80, n).unwrap())
}

/// By default, each of the floods would occupy 360 entries after three seconds.
#[test]
fn a_flood_through_any_bridge_occupies_few_entries_and_first_contacts_succeed() {
    let _alone = neighbour_table();
    let cluster = Cluster::start("bridge floods", 2, GUIDE);
    let (host, [first, second]) = (&cluster.hosts[0], parts(&cluster, "h1"));
    // A bridge of another engine, with another part of the host prefix.
    host.ip_batch(&format!(
        "link add br-x type bridge
         address add {}/80 dev br-x nodad
         link set br-x up
         link add vx type veth peer name x0
         link set vx master br-x up
         link set x0 up",
        second.first_host()
    ))
    .unwrap();
    expect_limits(host, "br-x");
    expect_limits(host, BRIDGE);
    let (known, sender) = (host.container("known").unwrap(), cluster.hosts[1].container("sender").unwrap());
    poll("the path", 10 * SECONDS, || sender.ping(known.address())?.replied());
    let floods = [first, second].map(|prefix| sender.flood(prefix, 120).unwrap());
    for flood in &floods {
        flood.flows(420, 20 * SECONDS).unwrap();
    }
    for interface in [BRIDGE, "br-x"] {
        let count = unanswered(host, interface);
        assert!((5..120).contains(&count), "{count} on {interface}");
    }
    let late = host.container("late").unwrap();
    poll("a first contact", 5 * SECONDS, || sender.ping(late.address())?.replied());
    // A value that another process sets is undone.
    host.sysctl(&format!("net/ipv6/neigh/{BRIDGE}/retrans_time_ms"), "1000").unwrap();
    expect_limits(host, BRIDGE);
    expect_status(&cluster, "another process changed sysctl net.ipv6.neigh.docker0.retrans_time_ms: 1000");
}

#[test]
fn packets_to_refused_addresses_occupy_no_entry_anywhere() {
    let _alone = neighbour_table();
    let cluster = Cluster::start("refused floods", 2, GUIDE);
    let sender = cluster.hosts[1].container("sender").unwrap();
    let [_, rest] = parts(&cluster, "h1");
    let held = [cluster.prefix("h1"), cluster.prefix("h2")];
    let pool: Prefix = GUIDE.prefix.parse().unwrap();
    let unassigned = (0..).map(|n| pool.nth(64, n).unwrap()).find(|it| !held.contains(it)).unwrap();
    let known = cluster.hosts[0].container("known").unwrap();
    poll("the path", 10 * SECONDS, || sender.ping(known.address())?.replied());
    let floods = [rest, unassigned].map(|prefix| sender.flood(prefix, 250).unwrap());
    for flood in &floods {
        flood.flows(500, 20 * SECONDS).unwrap();
    }
    for host in &cluster.hosts {
        let mut found = neighbours(host, "nud all");
        found.retain(|(addr, _)| rest.contains(*addr) || unassigned.contains(*addr));
        assert_eq!(found, [], "{}", host.name());
    }
}

/// The rules of docs/operations.md, for these prefixes.
fn documented_rules(containers: Prefix, uplinks: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page.split("## Packets to unused addresses").nth(1).unwrap();
    let rules = section.split("```text").nth(1).unwrap().split("```").next().unwrap();
    for (example, count) in [("2001:db8:8000:1::/80", 1), ("2001:db8::/64", 1)] {
        assert_eq!(rules.matches(example).count(), count, "{rules}");
    }
    rules.replace("2001:db8:8000:1::/80", &containers.to_string()).replace("2001:db8::/64", uplinks)
}

fn doctor(host: &Host) -> String {
    let agent = bin("sextant-agent").unwrap().display().to_string();
    text(&host.run(&[&agent, "--uplink", "eth0", "doctor"]).unwrap())
}

/// The fixes that are shown are carried out: the floods go on, and the problems end.
#[test]
fn floods_are_named_and_the_rules_that_the_doctor_shows_end_the_problem() {
    let _alone = neighbour_table();
    let cluster = Cluster::start("named floods", 2, GUIDE);
    let (host, [containers, _]) = (&cluster.hosts[0], parts(&cluster, "h1"));
    let known = host.container("known").unwrap();
    let outside = cluster.hosts[1].container("outside").unwrap();
    poll("the path", 10 * SECONDS, || outside.ping(known.address())?.replied());
    let stream = outside.udp_stream(&known, 10 * MILLISECONDS).unwrap();
    let uplinks = "2001:db8::/64";
    let floods =
        [outside.flood(containers, 350).unwrap(), known.flood(uplinks.parse().unwrap(), 50).unwrap()];
    for (interface, prefix) in [(BRIDGE, containers.to_string()), ("eth0", uplinks.to_owned())] {
        let shown =
            expect_status(&cluster, &format!("addresses on interface {interface} that do not answer"));
        for part in [format!("tcpdump -c 20 -n -i any dst net {prefix}"), "`sextant-agent doctor`".to_owned()]
        {
            assert!(shown.contains(&part), "no \"{part}\" in\n{shown}");
        }
        raises_the_limit(host, &shown);
    }
    let (code, metrics) = cluster.agents[0].http("/metrics").unwrap();
    assert!(code == 200 && metrics.contains("sextant_agent_neighbours_unanswered "), "{metrics}");
    let shown = doctor(host);
    let commands: Vec<_> =
        shown.lines().filter_map(|line| Some(&line[line.find("nft 'table ip6 ")?..])).collect();
    assert_eq!(commands.len(), 2, "{shown}");
    for command in commands {
        host.check(&["sh", "-c", command]).unwrap();
    }
    poll("the problems are gone", 60 * SECONDS, || {
        let shown = cluster.sextant(&["status"]);
        if shown.contains("that do not answer") { Err(shown) } else { Ok(()) }
    });
    assert_eq!(doctor(host), "no problems found\n");
    assert!(unanswered(host, BRIDGE) > 5, "the flood goes on");
    stream.finish().unwrap().nothing_lost().unwrap();
    expect_first_contacts(&cluster, &known, &outside);
    drop(floods);
    let end = shown.split('`').find(|command| command.starts_with("nft delete")).unwrap();
    host.check(&["sh", "-c", end]).unwrap();
    assert_eq!(host.check(&["nft", "list", "tables"]).unwrap(), "");
}

/// The command that the status shows raises the limits. They are the machine's: here files replace them.
fn raises_the_limit(host: &Host, shown: &str) {
    let neigh = host.dir().join("neigh");
    fs::create_dir_all(neigh.join("default")).unwrap();
    let limit = |n: u8| neigh.join(format!("default/gc_thresh{n}"));
    for n in [2, 3] {
        fs::write(limit(n), "1").unwrap();
    }
    let command = shown.split('`').find(|command| command.starts_with("sysctl -w ")).unwrap();
    let there = format!("mount --bind {} /proc/sys/net/ipv6/neigh && {command}", neigh.display());
    host.check(&["unshare", "--mount", "sh", "-c", &there]).unwrap();
    let raised = [2, 3].map(|n| fs::read_to_string(limit(n)).unwrap().trim().parse::<u32>().unwrap());
    let entries = host.ip("ntable show name ndisc_cache").unwrap();
    let before = entries.split_once("thresh3 ").unwrap().1.split_whitespace().next().unwrap();
    let before: u32 = before.parse().unwrap();
    assert_eq!(raised, [before * 2, before * 4], "{command}");
}

/// Also of containers that have never sent anything.
fn expect_first_contacts(cluster: &Cluster, known: &Container, outside: &Container) {
    let host = &cluster.hosts[0];
    let late = host.container("late").unwrap();
    poll("a first contact from the host", 5 * SECONDS, || host.ping(late.address())?.replied());
    poll("a first contact from outside", 60 * SECONDS, || outside.ping(late.address())?.replied());
    let silent = host.container("silent").unwrap();
    // By the documented rules, each try competes with the flood for a hundred packets a second.
    poll("a first contact with a silent container", 60 * SECONDS, || {
        outside.ping(silent.address())?.replied()
    });
    poll("the path that was known", 5 * SECONDS, || outside.ping(known.address())?.replied());
    poll("a host that was never asked", 20 * SECONDS, || known.ping(cluster.hosts[1].address())?.replied());
}

#[test]
fn the_documented_rules_limit_a_flood_and_let_first_contacts_succeed() {
    let _alone = neighbour_table();
    let cluster = Cluster::start("documented rules", 2, GUIDE);
    let (host, [containers, _]) = (&cluster.hosts[0], parts(&cluster, "h1"));
    let known = host.container("known").unwrap();
    let outside = cluster.hosts[1].container("outside").unwrap();
    let file = host.dir().join("rules.nft");
    fs::write(&file, documented_rules(containers, "2001:db8::/64")).unwrap();
    host.check(&["nft", "-f", file.to_str().unwrap()]).unwrap();
    poll("the path", 10 * SECONDS, || outside.ping(known.address())?.replied());
    let flood = outside.flood(containers, 350).unwrap();
    flood.flows(1000, 20 * SECONDS).unwrap();
    let count = unanswered(host, BRIDGE);
    assert!((5..60).contains(&count), "{count}; without the rules it is more than 100");
    expect_first_contacts(&cluster, &known, &outside);
}
