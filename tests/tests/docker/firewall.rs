//! Engines with a firewall for IPv6.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use sextant_tests::{AgentOptions, Docker, Host, SECONDS, expect_text, poll};

use crate::bed::{Bed, NETWORK, options};

/// An engine of 20.10 with a firewall for IPv6, as later ones have by default.
pub const FIREWALL: [&str; 2] = ["--experimental", "--ip6tables"];
/// The port that is published, and one that is not.
const PUBLISHED: u16 = 8000;
const UNPUBLISHED: u16 = 8001;

fn web(engine: &Docker) -> String {
    let address = engine.container("web", &["--network", "sextant", "-p", "8000:8000"]).unwrap();
    engine.serve("web", PUBLISHED).unwrap();
    engine.serve("web", UNPUBLISHED).unwrap();
    address
}

/// The container of the first host reaches that of the second one at this port, with its own address.
fn reaches(bed: &Bed, addresses: &[String], port: u16) {
    expect_text(&format!("port {port}"), 10 * SECONDS, &addresses[0], || {
        bed.engines[0].ask("web", &addresses[1], port)
    });
}

#[test]
fn all_ports_are_open_within_the_cluster_whatever_becomes_of_the_engines_rules() {
    let mut bed = Bed::start_with("docker firewall", 2, &[], &FIREWALL);
    let addresses: Vec<_> = bed.engines.iter().map(web).collect();
    let open = |bed: &Bed| {
        bed.pings(0, "web", &addresses[1]);
        reaches(bed, &addresses, PUBLISHED);
        reaches(bed, &addresses, UNPUBLISHED);
    };
    open(&bed);
    bed.status_is_silent();
    // Somebody flushes what the agent has put there.
    for host in &bed.cluster.hosts {
        host.check(&["ip6tables", "-F", "FORWARD"]).unwrap();
        host.check(&["ip6tables", "-t", "nat", "-F", "POSTROUTING"]).unwrap();
    }
    open(&bed);
    // While the agents are dead, the rules stay.
    bed.cluster.agents.iter().for_each(|agent| agent.process.freeze().unwrap());
    open(&bed);
    bed.cluster.agents.iter().for_each(|agent| agent.process.thaw().unwrap());
    for index in 0..2 {
        bed.engines[index].end_engine(Signal::SIGTERM).unwrap();
        bed.engines[index].start_engine(&FIREWALL).unwrap();
        bed.engines[index].run(&["start", "web"]).unwrap();
        poll("it serves again", 10 * SECONDS, || bed.engines[index].serve("web", PUBLISHED));
        bed.engines[index].serve("web", UNPUBLISHED).unwrap();
    }
    let addresses: Vec<_> = bed.engines.iter().map(|engine| engine.address("web").unwrap()).collect();
    reaches(&bed, &addresses, UNPUBLISHED);
}

#[test]
fn published_ports_are_the_only_ones_where_that_is_set_and_the_source_is_the_containers_own() {
    let bed = Bed::start_with("docker published", 2, &["--docker-from-cluster", "published"], &FIREWALL);
    let addresses: Vec<_> = bed.engines.iter().map(web).collect();
    reaches(&bed, &addresses, PUBLISHED);
    assert!(bed.engines[0].ask("web", &addresses[1], UNPUBLISHED).is_err());
}

#[test]
fn cleanup_removes_the_rules_and_leaves_the_engines() {
    let bed = Bed::start_with("docker cleanup", 1, &[], &FIREWALL);
    let (host, agent) = (&bed.cluster.hosts[0], &bed.cluster.agents[0]);
    let rules = || host.check(&["ip6tables", "-S"]).unwrap();
    poll("the rules are there", 5 * SECONDS, || {
        anyhow::ensure!(rules().contains("--comment sextant"), "{}", rules());
        Ok(())
    });
    agent.process.terminate(10 * SECONDS).unwrap();
    bed.engines[0].run(&["network", "rm", "sextant"]).unwrap();
    host.ip("link delete sextant0").unwrap();
    let state = bed.cluster.lab.state_dir(host).display().to_string();
    let agent = sextant_tests::bin("sextant-agent").unwrap().display().to_string();
    let cleanup = |more: &[&str]| {
        host.check(&[&[agent.as_str(), "--state-dir", &state, "cleanup"], more].concat()).unwrap()
    };
    let shown = cleanup(&["--dry-run"]);
    assert!(shown.contains("firewall rule -t filter -A "), "{shown}");
    assert!(rules().contains("--comment sextant"));
    cleanup(&[]);
    assert!(
        !rules().contains("sextant -j") && rules().contains("-N DOCKER-ISOLATION-STAGE-1"),
        "{}",
        rules()
    );
    assert!(!cleanup(&[]).contains("firewall rule"));
}

#[test]
fn an_engine_without_a_firewall_gets_only_the_rules_that_a_policy_needs() {
    let bed = Bed::start_with(
        "docker without firewall",
        1,
        &["--docker-from-outside", "open"],
        &["--ip6tables=false"],
    );
    web(&bed.engines[0]);
    let rules = bed.cluster.hosts[0].check(&["ip6tables", "-S"]).unwrap();
    assert!(!rules.contains("sextant") && !rules.contains("SEXTANT"), "{rules}");
}

#[test]
fn while_the_engine_is_away_the_rules_are_kept() {
    let mut bed = Bed::start_with("docker away", 1, &[], &["--ip6tables=false"]);
    let host = bed.cluster.hosts[0].clone();
    has_rules(&host, "ip6tables", 5 * SECONDS);
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    host.check(&["ip6tables", "-F", "FORWARD"]).unwrap();
    has_rules(&host, "ip6tables", 2 * SECONDS);
}

/// Waits until the rules of the policy are there, by this program.
fn has_rules(host: &Host, program: &str, within: Duration) {
    poll(&format!("{program} shows the rules"), within, || {
        let rules = host.check(&[program, "-S"])?;
        anyhow::ensure!(rules.contains("-j SEXTANT-PUBLISHED"), "{rules}");
        Ok(())
    });
}

#[test]
fn rules_that_somebody_removes_are_back_within_two_seconds_however_busy_the_engine_is() {
    let bed = Bed::start_with("docker removed rules", 1, &[], &["--ip6tables=false"]);
    let (engine, host) = (&bed.engines[0], &bed.cluster.hosts[0]);
    engine.container("web", &["--network", "sextant"]).unwrap();
    let flushed = || {
        for chain in ["FORWARD", "SEXTANT-PUBLISHED", "FORWARD", "FORWARD"] {
            host.check(&["ip6tables", "-F", chain]).unwrap();
            has_rules(host, "ip6tables", 2 * SECONDS);
        }
    };
    has_rules(host, "ip6tables", 5 * SECONDS);
    flushed();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for command in ["pause", "unpause"] {
                    engine.run(&[command, "web"]).unwrap();
                }
            }
        });
        flushed();
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn rules_of_the_legacy_kind_whose_changes_tell_nobody_are_kept_too() {
    let mut bed = Bed::start_with("docker legacy rules", 1, &[], &["--ip6tables=false"]);
    let host = bed.cluster.hosts[0].clone();
    // A directory with the legacy programs under their usual names.
    let legacy = host.dir().join("legacy");
    fs::create_dir(&legacy).unwrap();
    for name in ["ip6tables", "ip6tables-restore", "ip6tables-save"] {
        std::os::unix::fs::symlink("/usr/sbin/xtables-legacy-multi", legacy.join(name)).unwrap();
    }
    let path = format!("{}:{}", legacy.display(), std::env::var("PATH").unwrap());
    bed.cluster.agents.clear();
    let options = options(&bed.engines[0], &NETWORK);
    let environment = vec![("PATH".to_owned(), path)];
    bed.cluster.start_agent_with(0, AgentOptions { environment, ..options });
    bed.cluster.settle();
    has_rules(&host, "ip6tables-legacy", 5 * SECONDS);
    host.check(&["ip6tables-legacy", "-F", "FORWARD"]).unwrap();
    has_rules(&host, "ip6tables-legacy", 3 * SECONDS);
}
