//! A host that boots: what stands before the engine starts, with no controller.

use nix::sys::signal::Signal;
use sextant_tests::{SECONDS, bin, poll};

use crate::bed::Bed;

#[test]
fn a_host_is_set_up_before_the_engine_starts_and_without_a_controller() {
    let mut bed = Bed::start("docker boot", 2, &[]);
    let publish = ["--network", "sextant", "--restart", "always"];
    let addresses: Vec<_> =
        bed.engines.iter().map(|engine| engine.container("web", &publish).unwrap()).collect();
    bed.pings(1, "web", &addresses[0]);
    let prefix = bed.own_prefix(0);
    // The first host goes down, and nothing of it is left but its disk; the controller is away.
    let agent = bed.cluster.agents.remove(0);
    agent.process.signal(Signal::SIGKILL).unwrap();
    drop(agent);
    bed.cluster.controller = None;
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    let host = bed.cluster.hosts[0].clone();
    host.ip("link delete sextant0").unwrap();
    host.ip("-6 route flush proto 66").unwrap();
    for table in ["raw", "filter", "nat"] {
        host.check(&["ip6tables", "-t", table, "-F"]).unwrap();
    }
    host.check(&["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0"]).unwrap();

    let state = bed.cluster.lab.state_dir(&host).display().to_string();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let settings = ["--controller", "http://[2001:db8::c:1]:7300", "--insecure", "--node", "h1"];
    let network = ["--state-dir", &state, "--uplink", "eth0", "--docker-mode", "network", "prepare"];
    let words = [&[program.as_str()], &settings[..], &network[..]].concat();
    let said = host.check(&words).unwrap();
    assert!(said.contains(&format!("set up for containers of {prefix}")), "{said}");
    let forwarding = host.check(&["sysctl", "-n", "net.ipv6.conf.all.forwarding"]).unwrap();
    assert_eq!(forwarding.trim(), "1");
    let routes = host.ip("-6 route show proto 66").unwrap();
    assert!(routes.contains("unreachable "), "{routes}");
    assert!(host.check(&["ip6tables", "-S"]).unwrap().contains("SEXTANT-PUBLISHED"), "the rules stand");
    host.address_of("sextant0").unwrap();

    // The engine starts its container by itself, which the other host still has a route to. (Routes to other hosts' containers
    // come with the agent.)
    bed.engines[0].start_engine(&[]).unwrap();
    poll("the container is back", 20 * SECONDS, || {
        anyhow::ensure!(bed.engines[0].address("web")? == addresses[0], "another address");
        bed.cluster.hosts[1].check(&["ping", "-c", "1", "-W", "1", &addresses[0]])
    });
    assert!(host.check(&words).is_ok(), "it can be run again");
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
