//! Streams of arbitrary messages.

mod words;

use std::{fs, net::Ipv6Addr};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sextant_proto::Prefix;
use sextant_tests::{
    Host, SECONDS,
    cluster::{Cluster, GUIDE},
    expect_text, poll,
};

use self::words::Words;
use crate::node::HostileNode;

/// The streams that are opened.
const STREAMS: u32 = 1_000;
/// Draws the messages of an earlier run.
const SEED: &str = "SEXTANT_HOSTILE_SEED";
/// How much more memory a daemon may have afterwards, in KiB. One stream may say 100 kB, of which limits let little stay.
const MEMORY: u64 = 96 << 10;

fn words(cluster: &Cluster, evil: &HostileNode) -> Words {
    let seed =
        std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("{SEED}={seed}");
    let hosts: Vec<Prefix> = cluster.hosts.iter().map(|host| cluster.prefix(host.name())).collect();
    let mut addresses: Vec<Ipv6Addr> = cluster.hosts.iter().map(Host::address).collect();
    addresses.extend(hosts.iter().filter_map(|prefix| prefix.nth(128, 5)).map(|prefix| prefix.addr()));
    let known = ["2001:db8::66", "2001:db8::c:1", "2001:db8::fe", "2001:db8::", "2001:db8:80ff::1"];
    let others = ["2001:db8:77::1", "fe80::1", "::", "::1", "ff02::1", "::ffff:192.0.2.1"];
    addresses.extend(known.iter().chain(&others).map(|text| text.parse::<Ipv6Addr>().unwrap()));
    let wide =
        [GUIDE.prefix, "::/0", "2001:db8::/64", "2000::/3"].map(|text| text.parse::<Prefix>().unwrap());
    let prefixes = hosts.into_iter().chain(wide).map(Into::into);
    let mut prefixes: Vec<sextant_proto::v1::Prefix> = prefixes.collect();
    prefixes.extend([evil.claim.prefix.clone().unwrap(), crate::announcements::container(&evil.claim)]);
    Words {
        random: StdRng::seed_from_u64(seed),
        addresses,
        prefixes,
        claim: evil.claim.clone(),
        hello: evil.hello(),
    }
}

/// The routes of a host but for those to prefixes that the hosts' own agents have no part in.
fn routes(cluster: &Cluster, host: &Host) -> String {
    let nodes = cluster.lab.cli_json(&["node", "list"]).unwrap();
    let foreign = nodes.as_array().unwrap().iter().filter(|node| !is_host(cluster, &node["name"]));
    let prefixes = foreign.flat_map(|node| node["claims"].as_array().cloned().unwrap_or_default());
    let prefixes: Vec<_> = prefixes.map(|claim| claim["host_prefix"].as_str().unwrap().to_owned()).collect();
    let mut routes = host.routes_of(66).unwrap();
    routes.retain(|route| !prefixes.iter().any(|prefix| route.starts_with(prefix)));
    routes.sort();
    routes.join("\n")
}

fn is_host(cluster: &Cluster, name: &serde_json::Value) -> bool {
    cluster.hosts.iter().any(|host| name == host.name())
}

/// The resident memory of each agent and of the controller, in KiB.
fn memory(cluster: &Cluster) -> Vec<u64> {
    let controller = &cluster.controller.as_ref().unwrap().process;
    let agents = cluster.agents.iter().map(|agent| &agent.process);
    let rss = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    agents.chain([controller]).map(|process| rss(process.pid())).collect()
}

fn no_panic(cluster: &Cluster) {
    let logs = cluster.agents.iter().map(|agent| agent.process.log());
    for log in logs.chain([cluster.controller.as_ref().unwrap().process.log()]) {
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// DESIGN I14, over whole streams. Messages of another run: `SEXTANT_HOSTILE_SEED=N`.
#[test]
fn i14_nothing_that_one_node_says_changes_a_route_to_another() {
    let cluster = Cluster::start("hostile streams", 3, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    let mut evil = HostileNode::new(controller, "evil");
    let mut words = words(&cluster, &evil);
    let before: Vec<_> = cluster.hosts.iter().map(|host| routes(&cluster, host)).collect();
    let memory_before = memory(&cluster);
    let mut taken = 0;
    for stream in 0..STREAMS {
        if words.random.random_range(0..8) == 0 {
            let _answer = evil.claim_with(words.claim_request());
        }
        if say(&mut evil, &mut words) {
            taken += 1;
        } else {
            evil.claim_again();
            (words.claim, words.hello) = (evil.claim.clone(), evil.hello());
        }
        if stream % 50 == 49 {
            no_panic(&cluster);
            for (host, before) in cluster.hosts.iter().zip(&before) {
                let what = format!("routes of {} after {stream} streams", host.name());
                expect_text(&what, 10 * SECONDS, before, || anyhow::Ok(routes(&cluster, host)));
            }
        }
    }
    println!("{taken} of {STREAMS} streams were taken");
    assert!(taken > STREAMS / 8, "only {taken} streams were taken");
    // Others still get what is new, and all fits.
    poll("all changes are applied", 20 * SECONDS, || {
        for host in &cluster.hosts {
            let node = cluster.node(host.name());
            anyhow::ensure!(node["behind"] == 0 && node["connected"] == true, "{node}");
        }
        Ok(())
    });
    let memory_after = memory(&cluster);
    let grown = |(before, after): (&u64, &u64)| after.saturating_sub(*before);
    let grown: Vec<u64> = memory_before.iter().zip(&memory_after).map(grown).collect();
    assert!(grown.iter().all(|grown| *grown < MEMORY), "{grown:?} KiB");
    no_panic(&cluster);
}

/// One stream, of which the node reads nothing until it has said all. Returns whether the controller took all.
fn say(evil: &mut HostileNode, words: &mut Words) -> bool {
    let Ok(stream) = evil.open(words.hello()) else { return false };
    for _ in 0..words.random.random_range(1..6) {
        stream.say(words.message());
    }
    stream.end().is_ok()
}
