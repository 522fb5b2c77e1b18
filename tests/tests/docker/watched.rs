//! What the agent sees of an engine that it does not change: `[docker] mode = "none"`.

use std::thread;

use nix::sys::signal::Signal;
use sextant_tests::{SECONDS, expect_text, poll};

use crate::bed::{Bed, REACHED};

/// The part of the host prefix with this number.
fn part(bed: &Bed, index: usize, number: u32) -> String {
    let first = bed.container_prefix(index);
    first.replace("::/80", &format!(":{number:x}::/80"))
}

/// Makes a network with a prefix.
fn create(bed: &Bed, index: usize, name: &str, prefix: &str, more: &[&str]) {
    let create = [&["network", "create", "--ipv6", "--subnet", prefix], more, &[name]].concat();
    bed.engines[index].run(&create).unwrap();
}

fn announces(bed: &Bed, index: usize, prefixes: &[&str]) {
    expect_text("the announced prefixes", 10 * SECONDS, &prefixes.join(" "), || {
        anyhow::Ok(bed.container_prefixes(index).join(" "))
    });
}

#[test]
fn networks_in_the_host_prefix_are_announced_as_they_come_and_go() {
    let bed = Bed::watched("docker watched", 2);
    let (own, second, third) = (bed.container_prefix(1), part(&bed, 1, 2), part(&bed, 1, 3));
    announces(&bed, 1, &[&own]);
    create(&bed, 1, "two", &second, &REACHED);
    announces(&bed, 1, &[&own, &second]);
    create(&bed, 1, "three", &third, &[]);
    create(&bed, 1, "private", "fd00:5::/64", &[]);
    announces(&bed, 1, &[&own, &second, &third]);
    bed.status_is_silent();
    // They are reached.
    let address = bed.engines[1].container("web", &["--network", "two"]).unwrap();
    poll("a container of the second network answers", 10 * SECONDS, || {
        let source = bed.cluster.hosts[0].bridge_address()?.0.to_string();
        bed.cluster.hosts[0].check(&["ping", "-6", "-c", "1", "-W", "1", "-I", &source, &address])
    });
    bed.engines[1].run(&["rm", "-f", "web"]).unwrap();
    bed.engines[1].run(&["network", "rm", "two"]).unwrap();
    announces(&bed, 1, &[&own, &third]);
}

#[test]
fn what_changed_while_the_engine_or_the_agent_was_away_is_seen() {
    let mut bed = Bed::watched("docker watched away", 1);
    let (own, second, third) = (bed.container_prefix(0), part(&bed, 0, 2), part(&bed, 0, 3));
    create(&bed, 0, "two", &second, &REACHED);
    announces(&bed, 0, &[&own, &second]);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        bed.engines[0].end_engine(signal).unwrap();
        bed.status_has(&["Docker does not answer at", "systemctl start docker"]);
        announces(&bed, 0, &[&own, &second]);
        bed.engines[0].start_engine(&[]).unwrap();
        bed.status_is_silent();
    }
    bed.cluster.agents[0].process.freeze().unwrap();
    create(&bed, 0, "three", &third, &REACHED);
    bed.engines[0].run(&["network", "rm", "two"]).unwrap();
    bed.cluster.agents[0].process.thaw().unwrap();
    announces(&bed, 0, &[&own, &third]);
}

#[test]
fn a_prefix_that_is_not_routed_to_the_host_is_reported() {
    let bed = Bed::watched("docker watched prefixes", 2);
    let engine = &bed.engines[0];
    let gone = |name: &str| {
        engine.run(&["network", "rm", name]).unwrap();
        bed.status_is_silent();
    };
    let theirs = part(&bed, 1, 5);
    create(&bed, 0, "theirs", &theirs, &[]);
    bed.status_has(&["network theirs has", &theirs, "of pool main, but outside", "docker network rm theirs"]);
    gone("theirs");
    create(&bed, 0, "global", "2001:db8:77::/64", &[]);
    bed.status_has(&["global prefix 2001:db8:77::/64, which is in no pool", "--label sextant.routed-by="]);
    gone("global");
    create(&bed, 0, "global", "2001:db8:77::/64", &["--label", "sextant.routed-by=edge"]);
    create(&bed, 0, "private", "fd00:5::/64", &[]);
    create(&bed, 0, "two", &part(&bed, 0, 2), &[]);
    announces(&bed, 0, &[&bed.container_prefix(0), &part(&bed, 0, 2)]);
    bed.status_is_silent();
    // The bridge has it already.
    let narrower = bed.container_prefix(0).replace("/80", "/96");
    create(&bed, 0, "twice", &narrower, &[]);
    bed.status_has(&["network twice on br-", "overlaps the container prefix", "docker network rm twice"]);
}

/// macvlan: the container is a neighbour of the hosts.
#[test]
fn containers_on_the_link_of_the_hosts_are_reached_there_and_nowhere_else() {
    let bed = Bed::watched("docker macvlan", 2);
    let engine = &bed.engines[0];
    let beside = ["-d", "macvlan", "-o", "parent=eth0"];
    create(&bed, 0, "lan", "2001:db8::/64", &beside);
    engine.container("web", &["--network", "lan", "--ip6", "2001:db8::99"]).unwrap();
    poll("the other host reaches it", 10 * SECONDS, || {
        bed.cluster.hosts[1].check(&["ping", "-6", "-c", "1", "-W", "1", "2001:db8::99"])
    });
    bed.status_is_silent();
    engine.run(&["rm", "-f", "web"]).unwrap();
    engine.run(&["network", "rm", "lan"]).unwrap();
    create(&bed, 0, "own", &part(&bed, 0, 3), &beside);
    bed.status_has(&["network own of driver macvlan has", "no host reaches them", "docker network rm own"]);
    announces(&bed, 0, &[&bed.container_prefix(0)]);
    engine.run(&["network", "rm", "own"]).unwrap();
    bed.status_is_silent();
}

/// An engine takes any text for the name of a network.
#[test]
fn the_fix_removes_a_network_of_any_name() {
    let bed = Bed::watched("docker odd names", 2);
    let theirs = part(&bed, 1, 5);
    for name in ["two words; false", "it's $(false)", "-f", "escape\u{1b}[31m"] {
        create(&bed, 0, name, &theirs, &["--"]);
        let status = poll("it is reported", 10 * SECONDS, || {
            let status = bed.cluster.sextant(&["status"]);
            anyhow::ensure!(status.contains("`docker network rm "), "{status}");
            Ok(status)
        });
        assert!(!status.contains('\u{1b}'), "{status:?}");
        let (_, fix) = status.split_once("`docker network rm ").unwrap();
        let line = format!(
            "docker -H unix://{} network rm {}",
            bed.engines[0].socket().display(),
            fix.split('`').next().unwrap()
        );
        bed.cluster.hosts[0].check(&["bash", "-c", &line]).unwrap();
        bed.status_is_silent();
    }
}

#[test]
fn no_event_is_missed_however_many_come_at_once() {
    let bed = Bed::start("docker events", 1, &[]);
    let engine = &bed.engines[0];
    let count = || bed.cluster.agents[0].docker_events().unwrap();
    let has_read = |events: u64| {
        expect_text("all events are read", 5 * SECONDS, &events.to_string(), || {
            anyhow::Ok(count().to_string())
        });
    };
    // The network of the agent.
    has_read(1);
    for name in ["db", "mail", "proxy", "web"] {
        engine.container(name, &["--network", "sextant"]).unwrap();
    }
    // Created, connected, started.
    has_read(1 + 4 * 3);
    let rename = |name: &str| {
        for n in 0..100 {
            let names = [name.to_owned(), format!("{name}-renamed")];
            engine.post(&format!("/containers/{}/rename?name={}", names[n % 2], names[(n + 1) % 2])).unwrap();
        }
    };
    thread::scope(|scope| {
        for name in ["db", "mail", "proxy", "web"] {
            scope.spawn(move || rename(name));
        }
    });
    has_read(1 + 4 * 3 + 4 * 100);
    engine.run(&["rename", "web", "last"]).unwrap();
    let shown = bed.cluster.sextant(&["node", "show", "h1", "--containers"]);
    let words: Vec<_> = shown.split_whitespace().collect();
    assert!(["db", "mail", "proxy", "last"].iter().all(|name| words.contains(name)), "{shown}");
}
