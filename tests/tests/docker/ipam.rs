//! `[docker] mode = "ipam"`.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sextant_proto::Prefix;
use sextant_tests::{AgentOptions, SECONDS, bin, expect_text, poll};

use crate::{
    bed::{Bed, CONFLICT},
    firewall::FIREWALL,
};

/// The subnets that the agent of a host has leased.
pub fn leases(bed: &Bed, index: usize) -> anyhow::Result<BTreeSet<String>> {
    let file = bed.cluster.lab.state_dir(&bed.cluster.hosts[index]).join("docker-leases.json");
    let stored: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
    Ok(stored["pools"].as_object().into_iter().flatten().map(|(subnet, _)| subnet.clone()).collect())
}

/// The leases are the subnets of these networks.
pub fn leases_are_of(bed: &Bed, index: usize, networks: &[String]) {
    let wanted: BTreeSet<_> = networks.iter().flat_map(|name| bed.subnets(index, name)).collect();
    poll("the leases are those of the networks", 10 * SECONDS, || {
        let leases = leases(bed, index)?;
        anyhow::ensure!(leases == wanted, "{leases:?}, not {wanted:?}");
        Ok(())
    });
}

fn announces(bed: &Bed, index: usize, prefixes: &[String]) {
    expect_text("the announced prefixes", 10 * SECONDS, &prefixes.join(" "), || {
        anyhow::Ok(bed.container_prefixes(index)[1..].join(" "))
    });
}

#[test]
fn networks_of_the_driver_get_prefixes_and_their_containers_reach_each_other() {
    let bed = Bed::ipam("docker ipam", 2);
    for index in 0..2 {
        bed.create_by_driver(index, "x", &[]).unwrap();
        bed.create_by_driver(index, "app_default", &["--label", "com.docker.compose.project=app"]).unwrap();
    }
    let host = bed.cluster.prefix("h2");
    for (number, name) in ["x", "app_default"].iter().enumerate() {
        let prefix = host.nth(80, number as u128 + 1).unwrap();
        assert_eq!(bed.subnets(1, name), [format!("172.30.{number}.0/24"), prefix.to_string()]);
    }
    announces(&bed, 1, &["x", "app_default"].map(|name| bed.subnets(1, name).remove(1)));
    let start = |index: usize, name: &str, network: &str| {
        let address = bed.engines[index].container(name, &["--network", network]).unwrap();
        bed.engines[index].serve(name, 8000).unwrap();
        address
    };
    let (near, far) = (start(0, "near", "x"), start(1, "far", "app_default"));
    for (from, source, to, target) in [(0, &near, "near", &far), (1, &far, "far", &near)] {
        bed.pings(from, to, target);
        expect_text(&format!("TCP from {to}"), 10 * SECONDS, source, || {
            bed.engines[from].ask(to, target, 8000)
        });
    }
    bed.status_is_silent();
    // All that is not asked for by name.
    bed.create_by_driver(0, "small", &["--ipam-opt", "sextant.length=112"]).unwrap();
    assert!(bed.subnets(0, "small")[1].ends_with("/112"));
    let asked = bed.cluster.prefix("h1").nth(80, 0x77).unwrap().to_string();
    bed.create_by_driver(0, "asked", &["--subnet", &asked]).unwrap();
    assert!(bed.subnets(0, "asked").contains(&asked));
    let refused =
        |subnet: &str| bed.create_by_driver(0, "no", &["--subnet", subnet]).unwrap_err().to_string();
    assert!(refused(&host.nth(80, 9).unwrap().to_string()).contains("is not inside of this host's prefix"));
    assert!(refused(&asked).contains("which another network has"));
    assert!(refused(&bed.container_prefixes(0)[0]).contains("is in use otherwise on this host"));
    leases_are_of(&bed, 0, &["x", "app_default", "small", "asked"].map(str::to_owned));
    for name in ["small", "asked"] {
        bed.engines[0].run(&["network", "rm", name]).unwrap();
    }
    leases_are_of(&bed, 0, &["x", "app_default"].map(str::to_owned));
    assert!(bed.cluster.hosts[0].ip("link show sextant0").is_err(), "no bridge is made");
}

#[test]
fn the_policy_is_for_all_networks_of_the_driver() {
    for (policy, reached) in [("open", true), ("published", false)] {
        let args = ["--docker-from-cluster", policy];
        let bed = Bed::ipam_with(&format!("docker ipam {policy}"), 2, &args, &FIREWALL);
        let web = |index: usize, network: &str| {
            bed.create_by_driver(index, network, &[]).unwrap();
            let args = ["--network", network, "-p", if network == "far" { "8000:8000" } else { "8001:8000" }];
            let address = bed.engines[index].container(network, &args).unwrap();
            [8000, 9000].iter().for_each(|port| bed.engines[index].serve(network, *port).unwrap());
            address
        };
        let (source, targets) = (web(0, "near"), [web(1, "far"), web(1, "other")]);
        for target in &targets {
            bed.pings(0, "near", target);
            let ask = |port| bed.engines[0].ask("near", target, port);
            expect_text("the published port", 10 * SECONDS, &source, || ask(8000));
            if reached {
                expect_text("another port", 10 * SECONDS, &source, || ask(9000));
            } else {
                assert!(ask(9000).is_err(), "{target}");
            }
        }
        bed.status_is_silent();
    }
}

#[test]
fn one_command_sets_the_driver_up_and_takes_it_back() {
    let mut bed = Bed::start_mode("docker ipam setup", 1, &["--docker-mode", "none"], &[]);
    let host = bed.cluster.hosts[0].clone();
    let config = host.dir().join("ipam.toml");
    let (socket, driver) = (bed.engines[0].socket(), bed.engines[0].ipam_socket());
    let before = format!("[docker]\nsocket = {socket:?}\nipam-socket = {driver:?}\n");
    fs::write(&config, &before).unwrap();
    // The engine and the command have one /etc/docker, which is not the machine's.
    let etc = socket.with_file_name("etc-docker");
    fs::create_dir(&etc).unwrap();
    let mount = format!("mkdir -p /etc/docker && mount --bind {} /etc/docker", etc.display());
    let enter = bed.engines[0].inside().unwrap();
    let enter: Vec<_> = enter.iter().map(String::as_str).chain(["sh", "-c", &mount]).collect();
    host.check(&enter).unwrap();
    let agent = bin("sextant-agent").unwrap().display().to_string();
    let state = bed.cluster.lab.state_dir(&host).display().to_string();
    let apart = format!("{mount} && exec \"$@\"");
    let setup = |more: &[&str]| {
        let program = ["unshare", "--mount", "sh", "-c", &apart, "sh", &agent];
        let options = ["--config", config.to_str().unwrap(), "--state-dir", &state, "docker", "setup"];
        host.check(&[&program[..], &options, more].concat()).unwrap()
    };
    let spec = || fs::read_to_string(etc.join("plugins/sextant.spec")).ok();
    let shown = setup(&["--mode", "ipam", "--dry-run"]);
    assert!(shown.contains("would be done:") && shown.contains("sextant.spec: the socket"), "{shown}");
    assert_eq!((spec(), fs::read_to_string(&config).unwrap()), (None, before.clone()));
    let done = setup(&["--mode", "ipam"]);
    assert!(done.contains("left to do: restart the agent, which then listens"), "{done}");
    assert_eq!(spec(), Some(format!("unix://{}\n", driver.display())));
    let again = setup(&[]);
    assert!(again.contains("nothing to do"), "{again}");

    // Each agent starts with the file that the setup has edited.
    bed.cluster.agents.clear();
    let args = vec!["--config".to_owned(), config.display().to_string()];
    let options =
        AgentOptions { bridge: String::new(), bridge_create: false, args, ..AgentOptions::default() };
    bed.cluster.start_agent_with(0, options);
    poll("a network of the driver", 20 * SECONDS, || bed.create_by_driver(0, "web", &[]));
    bed.engines[0].container("web", &["--network", "web"]).unwrap();
    bed.engines[0].run(&["rm", "-f", "web"]).unwrap();
    bed.engines[0].run(&["network", "rm", "web"]).unwrap();

    let undone = setup(&["--undo"]);
    assert!(undone.contains("sextant.spec removed") && undone.contains("restart the agent"), "{undone}");
    assert_eq!((spec(), fs::read_to_string(&config).unwrap()), (None, before));
}

#[test]
fn leases_outlive_the_agent_and_the_engine() {
    let mut bed = Bed::ipam("docker ipam restarts", 1);
    bed.create_by_driver(0, "x", &[]).unwrap();
    let address = bed.engines[0].container("web", &["--network", "x"]).unwrap();
    bed.cluster.agents.remove(0).process.kill().unwrap();
    bed.start_ipam_agent(0, false);
    let second = bed.engines[0].container("second", &["--network", "x"]).unwrap();
    assert_ne!(second, address);
    bed.create_by_driver(0, "y", &[]).unwrap();
    bed.engines[0].end_engine(Signal::SIGKILL).unwrap();
    bed.engines[0].start_engine(&[]).unwrap();
    bed.create_by_driver(0, "z", &[]).unwrap();
    let all = ["x", "y", "z"].map(str::to_owned);
    assert_eq!(all.iter().flat_map(|name| bed.subnets(0, name)).collect::<BTreeSet<_>>().len(), 6);
    leases_are_of(&bed, 0, &all);
    for name in ["web", "second"] {
        bed.engines[0].run(&["start", name]).unwrap();
    }
    assert_ne!(bed.engines[0].address("web").unwrap(), bed.engines[0].address("second").unwrap());
    // The state is lost: the networks keep their subnets.
    let agent = bed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    fs::remove_file(bed.cluster.lab.state_dir(&bed.cluster.hosts[0]).join("docker-leases.json")).unwrap();
    bed.start_ipam_agent(0, false);
    leases_are_of(&bed, 0, &all);
    let third = bed.engines[0].container("third", &["--network", "x"]).unwrap();
    assert!(
        ![bed.engines[0].address("web").unwrap(), bed.engines[0].address("second").unwrap()].contains(&third)
    );
    for name in ["web", "second", "third"] {
        bed.engines[0].run(&["rm", "-f", name]).unwrap();
    }
    bed.engines[0].run(&["network", "rm", "x", "y", "z"]).unwrap();
    leases_are_of(&bed, 0, &[]);
}

/// Asks for a subnet as an engine does that is about to make a network.
fn ask_for_a_lease(bed: &Bed) {
    let body = r#"{"AddressSpace":"sextant-local","V6":true}"#;
    let before = leases(bed, 0).unwrap().len();
    let answer = bed.engines[0].ask_driver("/IpamDriver.RequestPool", body).unwrap();
    assert!(answer.contains("PoolID"), "{answer}");
    assert_eq!(leases(bed, 0).unwrap().len(), before + 1);
}

#[test]
fn a_lease_of_no_network_ends_with_its_engine_however_soon_the_next_one_starts() {
    let mut bed = Bed::ipam("docker ipam ended", 1);
    bed.create_by_driver(0, "x", &[]).unwrap();
    for _ in 0..3 {
        ask_for_a_lease(&bed);
        bed.engines[0].end_engine(Signal::SIGKILL).unwrap();
        bed.engines[0].start_engine(&[]).unwrap();
        leases_are_of(&bed, 0, &["x".to_owned()]);
    }
}

#[test]
fn a_lease_of_no_network_ends_with_an_engine_that_the_agent_has_never_met() {
    let mut bed = Bed::ipam("docker ipam unmet", 1);
    bed.create_by_driver(0, "x", &[]).unwrap();
    ask_for_a_lease(&bed);
    bed.cluster.agents.remove(0).process.kill().unwrap();
    bed.engines[0].end_engine(Signal::SIGKILL).unwrap();
    bed.start_ipam_agent(0, false);
    bed.status_has(&["Docker does not answer at"]);
    bed.engines[0].start_engine(&[]).unwrap();
    leases_are_of(&bed, 0, &["x".to_owned()]);
}

#[test]
fn an_engine_that_starts_while_the_agent_is_stopped_starts_the_agent_and_does_not_wait() {
    let mut bed = Bed::ipam("docker ipam activated", 1);
    bed.create_by_driver(0, "x", &[]).unwrap();
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    // No controller can be reached.
    bed.cluster.controller = None;
    bed.start_ipam_agent(0, true);
    let began = Instant::now();
    bed.engines[0].start_engine(&[]).unwrap();
    let took = began.elapsed();
    println!("the engine started within {took:?}");
    assert!(took < Duration::from_secs(10), "it waited for the driver: {took:?}");
    bed.engines[0].container("web", &["--network", "x"]).unwrap();
    bed.create_by_driver(0, "y", &[]).unwrap();
    leases_are_of(&bed, 0, &["x", "y"].map(str::to_owned));
}

#[test]
fn a_network_of_the_former_prefix_is_named_and_left_alone() {
    let bed = Bed::ipam("docker ipam moved", 1);
    bed.create_by_driver(0, "x", &[]).unwrap();
    let before = bed.subnets(0, "x");
    bed.cluster.sextant(&["node", "reassign", "h1"]);
    bed.status_has(&["Docker's network x has", &before[1], "outside of this host's", "docker network rm x"]);
    assert_eq!(bed.subnets(0, "x"), before);
    // Its routes are no finding of their own.
    let status = bed.cluster.sextant(&["status"]);
    assert!(!status.contains(CONFLICT) && !status.contains("docker-stale"), "{status}");
    assert_eq!(status.matches(&before[1]).count(), 1, "{status}");
    bed.create_by_driver(0, "y", &[]).unwrap();
    assert_eq!(bed.subnets(0, "y")[1], bed.cluster.prefix("h1").nth(80, 1).unwrap().to_string());
    // The fix, word for word.
    bed.engines[0].run(&["network", "rm", "x"]).unwrap();
    bed.status_is_silent();
}

#[test]
fn a_trace_probes_from_a_network_of_the_driver() {
    let bed = Bed::ipam("docker ipam traced", 2);
    let trace = || {
        let done = bed.cluster.lab.cli(&["trace", "h1", "h2"]).unwrap();
        done.stdout + &done.stderr
    };
    let text = trace();
    assert!(!text.contains("BROKEN"), "nothing is there that could be broken: {text}");
    assert!(text.contains("no container runs on a network of Docker's IPAM driver"), "{text}");
    for index in 0..2 {
        bed.create_by_driver(index, "x", &[]).unwrap();
        bed.engines[index].container("web", &["--network", "x"]).unwrap();
    }
    poll("the path works", 10 * SECONDS, || {
        let text = trace();
        anyhow::ensure!(text.contains("h1 → h2 works") && text.contains("h2 → h1 works"), "{text}");
        Ok(())
    });
}

/// Makes and removes so many networks, eight at a time, while the agent is killed again and again.
fn storm(test: &str, count: usize) {
    let mut bed = Bed::ipam(test, 1);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let (engine, next) = (&bed.engines[0], std::sync::atomic::AtomicUsize::new(0));
    let create = ["network", "create", "--ipv6", "--ipam-driver", "sextant"];
    let work = || {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= count {
                return;
            }
            let name = format!("n{number}");
            // The engine gives up some requests while the agent is away.
            poll("the network is made", 60 * SECONDS, || engine.run(&[&create[..], &[&name]].concat()));
            if number % 2 == 0 {
                poll("the network is removed", 60 * SECONDS, || engine.run(&["network", "rm", &name]));
            }
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let agents = std::sync::Mutex::new(std::mem::take(&mut bed.cluster.agents));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let mut killed_at = 0;
        while workers.iter().any(|worker| !worker.is_finished()) {
            poll("progress", 120 * SECONDS, || {
                let finished = workers.iter().all(|worker| worker.is_finished());
                let done = done.load(std::sync::atomic::Ordering::Relaxed);
                anyhow::ensure!(finished || done >= killed_at + 5, "{done}");
                Ok(())
            });
            killed_at = done.load(std::sync::atomic::Ordering::Relaxed);
            let mut agents = agents.lock().unwrap();
            agents.remove(0).process.kill().unwrap();
            agents.push(bed.ipam_agent(0, false));
        }
    });
    bed.cluster.agents = agents.into_inner().unwrap();
    let names: Vec<_> =
        (0..count).filter(|number| number % 2 == 1).map(|number| format!("n{number}")).collect();
    let subnets: Vec<_> = names.iter().flat_map(|name| bed.subnets(0, name)).collect();
    assert_eq!(subnets.len(), names.len() * 2);
    let prefixes: Vec<Prefix> = subnets.iter().filter_map(|subnet| subnet.parse().ok()).collect();
    assert_eq!(prefixes.len(), names.len(), "{subnets:?}");
    for (at, prefix) in prefixes.iter().enumerate() {
        assert!(!prefixes[at + 1..].iter().any(|it| it.overlaps(*prefix)), "{prefix} twice: {prefixes:?}");
    }
    let ipv4: BTreeSet<_> = subnets.iter().filter(|subnet| !subnet.contains(':')).collect();
    assert_eq!(ipv4.len(), names.len(), "no IPv4 subnet is that of two networks: {subnets:?}");
    bed.engines[0].end_engine(Signal::SIGKILL).unwrap();
    bed.status_has(&["Docker does not answer at"]);
    bed.engines[0].start_engine(&[]).unwrap();
    leases_are_of(&bed, 0, &names);
}

#[test]
fn networks_made_and_removed_at_once_while_the_agent_is_killed_neither_overlap_nor_leak() {
    storm("docker ipam storm", 40);
}

#[test]
#[ignore = "slow: 200 networks"]
fn two_hundred_networks_made_and_removed_at_once_neither_overlap_nor_leak() {
    storm("docker ipam big storm", 200);
}
