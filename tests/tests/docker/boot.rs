//! A host that boots: what stands before the engine starts, with no controller.

use anyhow::Context;
use nix::sys::signal::Signal;
use sextant_proto::Prefix;
use sextant_tests::{SECONDS, bin, expect_text, poll};

use crate::{bed::Bed, firewall::FIREWALL};

/// The state of a host whose disk alone is left, which has no controller, after its boot unit has run; its words, to run it again.
fn boots(bed: &mut Bed) -> Vec<String> {
    let prefix = bed.own_prefix(0);
    let agent = bed.cluster.agents.remove(0);
    agent.process.signal(Signal::SIGKILL).unwrap();
    drop(agent);
    bed.cluster.controller = None;
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    let host = bed.cluster.hosts[0].clone();
    host.ip("link delete sextant0").unwrap();
    host.ip("-6 route flush proto 66").unwrap();
    for table in ["raw", "filter", "nat"] {
        ["-F", "-X"].iter().for_each(|all| drop(host.check(&["ip6tables", "-t", table, all]).unwrap()));
    }
    host.check(&["ip6tables", "-P", "FORWARD", "ACCEPT"]).unwrap();
    host.check(&["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0"]).unwrap();

    let state = bed.cluster.lab.state_dir(&host).display().to_string();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let settings = ["--controller", "http://[2001:db8::c:1]:7300", "--insecure", "--node", "h1"];
    let network = ["--state-dir", &state, "--uplink", "eth0", "--docker-mode", "network", "prepare"];
    let words = [&[program.as_str()], &settings[..], &network[..]].concat();
    let said = host.check(&words).unwrap();
    assert!(said.contains(&format!("set up for containers of {prefix}")), "{said}");
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_host_is_set_up_before_the_engine_starts_and_without_a_controller() {
    // An engine without rules of its own, and one with them.
    for engine in [&[][..], &FIREWALL] {
        let mut bed = Bed::start_with(&format!("docker boot {}", engine.len()), 2, &[], engine);
        let publish = ["--network", "sextant", "--restart", "always"];
        let addresses: Vec<_> =
            bed.engines.iter().map(|engine| engine.container("web", &publish).unwrap()).collect();
        bed.pings(1, "web", &addresses[0]);
        let words = boots(&mut bed);
        let host = bed.cluster.hosts[0].clone();
        let forwarding = host.check(&["sysctl", "-n", "net.ipv6.conf.all.forwarding"]).unwrap();
        assert_eq!(forwarding.trim(), "1");
        let routes = host.ip("-6 route show proto 66").unwrap();
        assert!(routes.contains("unreachable "), "{routes}");
        assert!(host.check(&["ip6tables", "-S"]).unwrap().contains("SEXTANT-PUBLISHED"), "the rules stand");
        host.address_of("sextant0").unwrap();

        // The engine starts its container by itself, which the other host still has a route to. (Routes to other hosts' containers
        // come with the agent.)
        bed.engines[0].start_engine(engine).unwrap();
        // From a container, by its own address, and at a port that is not published.
        let peer = Prefix::containing(addresses[1].parse().unwrap(), 64).unwrap();
        host.ip(&format!("-6 route add {peer} via {}", bed.cluster.hosts[1].address())).unwrap();
        poll("the container is back", 20 * SECONDS, || {
            anyhow::ensure!(bed.engines[0].address("web")? == addresses[0], "another address");
            bed.engines[0].serve("web", 8001)
        });
        let rules = || host.check(&["ip6tables-save"]).unwrap();
        poll("it is reached", 10 * SECONDS, || {
            let ping = ["exec", "web", "ping", "-c", "1", "-W", "1", &addresses[0]];
            bed.engines[1].run(&ping).with_context(rules)
        });
        expect_text("the source", 10 * SECONDS, &addresses[1], || {
            bed.engines[1].ask("web", &addresses[0], 8001).with_context(rules)
        });
        // The other way, the source is the container's own too.
        bed.engines[1].serve("web", 8001).unwrap();
        expect_text("the source", 10 * SECONDS, &addresses[0], || {
            bed.engines[0].ask("web", &addresses[1], 8001).with_context(rules)
        });
        let rules = rules();
        assert!(engine.is_empty() || rules.contains(":DOCKER - "), "{rules}");
        assert!(host.check(&words).is_ok(), "it can be run again");
    }
}

#[test]
fn without_the_agents_settings_no_bridge_is_taken_for_its_own() {
    let mut bed = Bed::start("docker unnamed", 1, &[]);
    bed.cluster.agents.clear();
    let host = bed.cluster.hosts[0].clone();
    host.ip("link add docker0 type bridge").unwrap();
    let address = host.address_of("sextant0").unwrap();
    let state = bed.cluster.lab.state_dir(&host).display().to_string();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let settings = ["--controller", "http://[2001:db8::c:1]:7300", "--insecure", "--node", "h1"];
    let common = [&[program.as_str()], &settings[..], &["--state-dir", &state, "--uplink", "eth0"]].concat();
    let missing = ["bridge sextant0, but neither [bridge] interface nor [docker] mode is set", "agent.toml"];
    let prepared = host.check(&[&common[..], &["prepare"]].concat()).unwrap_err().to_string();
    assert!(missing.iter().all(|word| prepared.contains(word)), "{prepared}");
    let doctor = host.run(&[&common[..], &["doctor"]].concat()).unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(missing.iter().all(|word| said.contains(word)), "{said}");
    assert!(said.contains("problems to fix: 1"), "nothing is judged by docker0: {said}");
    assert_eq!(host.address_of("sextant0").unwrap(), address);
    host.check(&[&common[..], &["--docker-mode", "network", "prepare"]].concat()).unwrap();
}
