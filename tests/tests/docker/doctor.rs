//! `sextant-agent doctor` and `sextant status` on hosts that were set up wrongly: each fault is named, its fix is carried out word for
//! word, and all is well again.

use nix::sys::signal::Signal;
use sextant_tests::{SECONDS, bin, poll};

use crate::{
    bed::{Bed, REACHED},
    firewall::FIREWALL as WITH_RULES,
};

/// Runs the doctor with the settings of the agents, and more.
pub fn doctor(bed: &Bed, mode: &[&str], more: &[&str]) -> String {
    doctor_at(bed, &bed.engines[0].socket().display().to_string(), mode, more)
}

fn doctor_at(bed: &Bed, socket: &str, mode: &[&str], more: &[&str]) -> String {
    let (agent, host) = (bin("sextant-agent").unwrap().display().to_string(), &bed.cluster.hosts[0]);
    let state = bed.cluster.lab.state_dir(host).display().to_string();
    let settings = ["--uplink", "eth0", "--state-dir", &state, "--docker-socket", socket];
    let words = [&[agent.as_str()], &settings[..], mode, &["doctor"], more].concat();
    let done = host.run(&words).unwrap();
    String::from_utf8(done.stdout).unwrap() + &String::from_utf8_lossy(&done.stderr)
}

const NONE: [&str; 2] = ["--docker-mode", "none"];
const NETWORK: [&str; 4] = ["--docker-mode", "network", "--bridge", "sextant0"];

pub fn is_well(bed: &Bed, mode: &[&str], case: &str) {
    poll(&format!("all is well: {case}"), 15 * SECONDS, || {
        let text = doctor(bed, mode, &[]);
        anyhow::ensure!(text == "no problems found\n", "{text}");
        Ok(())
    });
}

/// Waits until the doctor says all of these words. Returns all that it says.
fn says(bed: &Bed, mode: &[&str], words: &[&str]) -> String {
    poll(&format!("the doctor says {words:?}"), 10 * SECONDS, || {
        let text = doctor(bed, mode, &[]);
        anyhow::ensure!(words.iter().all(|word| text.contains(&filled(bed, word))), "{text}");
        Ok(text)
    })
}

/// The first command of each fix.
fn commands(text: &str) -> Vec<String> {
    let fixes = text.lines().filter_map(|line| line.trim().strip_prefix("fix: "));
    fixes.filter_map(|fix| Some(fix.split('`').nth(1)?.to_owned())).collect()
}

/// Carries out a command of a fix.
fn carry_out(bed: &Bed, command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    match words[0] {
        "docker" => drop(bed.engines[0].run(&words[1..]).unwrap()),
        _ => drop(bed.cluster.hosts[0].check(&words).unwrap()),
    }
}

/// The present container prefix, pool, and others, in the words of a case.
fn filled(bed: &Bed, text: &str) -> String {
    let own = bed.container_prefix(0);
    let base = own.trim_end_matches("::/80");
    let words =
        [("OWN", own.as_str()), ("POOL", "2001:db8:8000::/40"), ("BASE", base), ("BRIDGE", "docker0")];
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
}

/// A wrong set-up: commands on the host or of Docker that make it, words that the doctor says, and whether `--fix` is enough.
struct Case {
    name: &'static str,
    wrong: &'static [&'static str],
    words: &'static [&'static str],
    safe: bool,
    /// Undoes what the fix leaves.
    after: &'static [&'static str],
}

const FIREWALL: &[&str] = &["firewall drops packets from", "ip6tables -t"];
const FLUSH: &[&str] = &[
    "ip6tables -F",
    "ip6tables -P FORWARD ACCEPT",
    "ip6tables -t raw -F",
    "ip6tables -t mangle -F",
    "ip6tables -t nat -F",
];

const fn case(name: &'static str, wrong: &'static [&'static str], words: &'static [&'static str]) -> Case {
    Case { name, wrong, words, safe: false, after: FLUSH }
}

const WATCHED: [Case; 16] = [
    case(
        "policy",
        &["ip6tables -P FORWARD DROP"],
        &["-t filter: -P FORWARD DROP", "POOL to OWN", "OWN to POOL"],
    ),
    case("incoming", &["ip6tables -A FORWARD -d OWN -j DROP"], FIREWALL),
    case("refused", &["ip6tables -A FORWARD -s POOL -o BRIDGE -j REJECT"], FIREWALL),
    case("outgoing", &["ip6tables -A FORWARD -i BRIDGE ! -o BRIDGE -j DROP"], &["OWN to POOL"]),
    case(
        "raw",
        &["ip6tables -t raw -A PREROUTING -d BASE::2 ! -i BRIDGE -j DROP"],
        &["-t raw: -A PREROUTING -d BASE::2/128"],
    ),
    case("mangle", &["ip6tables -t mangle -A FORWARD -d OWN -j DROP"], &["-t mangle: -A FORWARD"]),
    case(
        "early mangle",
        &["ip6tables -t mangle -A PREROUTING -i eth0 -j DROP"],
        &["-t mangle: -A PREROUTING"],
    ),
    case(
        "masquerade",
        &["ip6tables -t nat -A POSTROUTING -s OWN ! -o BRIDGE -j MASQUERADE"],
        &["is replaced", "-j MASQUERADE"],
    ),
    case(
        "snat",
        &["ip6tables -t nat -A POSTROUTING -o eth0 -j SNAT --to-source 2001:db8::1"],
        &["is replaced", "-j SNAT"],
    ),
    Case {
        safe: true,
        ..case(
            "address",
            &["ip -6 address add 2001:db8:80ff:1::1/80 dev BRIDGE nodad"],
            &["BRIDGE has 2001:db8:80ff:1::1/80, and"],
        )
    },
    Case {
        safe: true,
        ..case(
            "route",
            &["ip -6 route add 2001:db8:80ff:1::/80 dev BRIDGE proto boot"],
            &["route of proto boot, as Docker makes them, leads 2001:db8:80ff:1::/80 to BRIDGE"],
        )
    },
    case(
        "no address",
        &["docker exec web ip -6 address flush dev eth0 scope global"],
        &["container web does not answer at"],
    ),
    case("link down", &["docker exec web ip link set eth0 down"], &["container web does not answer at"]),
    case(
        "anothers prefix",
        &["docker network create --ipv6 --subnet 2001:db8:80ff:2::/80 theirs"],
        &["network theirs has 2001:db8:80ff:2::/80 of pool main, but outside"],
    ),
    case(
        "global prefix",
        &["docker network create --ipv6 --subnet 2001:db8:77::/64 global"],
        &["global prefix 2001:db8:77::/64"],
    ),
    case(
        "twice",
        &["docker network create --ipv6 --subnet BASE::/96 twice"],
        &["network twice on br-", "overlaps the container prefix"],
    ),
];

/// Twenty wrong set-ups at least are made, found and fixed.
const _: () = assert!(WATCHED.len() + KEPT.len() >= 20);

fn make_and_fix(bed: &Bed, mode: &[&str], case: &Case) {
    let Case { name, wrong, words, safe, after } = case;
    wrong.iter().for_each(|command| carry_out(bed, &filled(bed, command)));
    let text = says(bed, mode, words);
    if *safe {
        let fixed = doctor(bed, mode, &["--fix"]);
        assert!(fixed.contains("  done: ip -6 "), "{name}: {fixed}");
    } else {
        let unfixed = doctor(bed, mode, &["--fix"]);
        assert!(!unfixed.contains("done: "), "{name}: only an operator can decide: {unfixed}");
        commands(&text).iter().for_each(|command| carry_out(bed, command));
    }
    is_well(bed, mode, name);
    after.iter().for_each(|command| carry_out(bed, command));
}

#[test]
fn each_fault_of_a_watched_host_is_found_and_its_fix_works() {
    let mut bed = Bed::watched("docker doctor", 1);
    // A container with rights in its own namespace, on a network of the host prefix.
    let second = filled(&bed, "BASE:2::/80");
    let create = [&["network", "create", "--ipv6", "--subnet", &second], &REACHED[..], &["two"]].concat();
    bed.engines[0].run(&create).unwrap();
    bed.engines[0]
        .container("web", &["--cap-add", "NET_ADMIN", "--stop-timeout", "1", "--network", "two"])
        .unwrap();
    is_well(&bed, &NONE, "at first");
    WATCHED.iter().for_each(|case| make_and_fix(&bed, &NONE, case));
    // The engine itself.
    let text = doctor_at(&bed, "/nonexistent/docker.sock", &NONE, &[]);
    assert!(
        text.contains("does not answer at /nonexistent/docker.sock") && text.contains("[docker] socket"),
        "{text}"
    );
    bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
    says(&bed, &NONE, &["Docker does not answer at", "systemctl start docker"]);
    bed.engines[0].start_engine(&[]).unwrap();
    is_well(&bed, &NONE, "the engine is back");
}

#[test]
fn status_node_show_and_readiness_tell_what_the_doctor_finds() {
    let bed = Bed::watched("docker doctor status", 1);
    let table = [
        ("ip6tables -P FORWARD DROP", "-P FORWARD DROP", true),
        ("ip -6 address add 2001:db8:80ff:1::1/80 dev docker0", "2001:db8:80ff:1::1/80", false),
    ];
    for (wrong, says, unready) in table {
        carry_out(&bed, wrong);
        poll(&format!("status says {says}"), 30 * SECONDS, || {
            let text = bed.cluster.sextant(&["status"]);
            anyhow::ensure!(text.contains(says), "{text}");
            Ok(())
        });
        assert!(bed.cluster.sextant(&["node", "show", "h1"]).contains(says));
        let (code, body) = bed.cluster.agents[0].http("/readyz").unwrap();
        assert_eq!((code != 200, body.contains(says)), (unready, unready), "{code} {body}");
        let text = doctor(&bed, &NONE, &["--fix"]);
        commands(&text).iter().filter(|it| it.starts_with("ip6tables")).for_each(|it| carry_out(&bed, it));
        poll("all is well again", 30 * SECONDS, || {
            let text = bed.cluster.sextant(&["status"]);
            anyhow::ensure!(text.starts_with("All is well"), "{text}");
            Ok(())
        });
    }
}

#[test]
fn missing_rules_of_published_ports_and_what_hides_their_clients_are_found() {
    let mut bed = Bed::start_with("docker doctor published", 1, &[], &["--ip6tables=false"]);
    bed.engines[0].container("web", &["--network", "sextant", "--publish", "8000:80"]).unwrap();
    let restart = |bed: &mut Bed| {
        bed.engines[0].end_engine(Signal::SIGTERM).unwrap();
        bed.engines[0].start_engine(&WITH_RULES).unwrap();
        bed.engines[0].run(&["start", "web"]).unwrap();
    };
    says(&bed, &NETWORK, &["go through docker-proxy", "port 8000 of container web", "\"ip6tables\": true"]);
    restart(&mut bed);
    is_well(&bed, &NETWORK, "the engine has rules");
    carry_out(&bed, "ip6tables -t nat -F DOCKER");
    says(
        &bed,
        &NETWORK,
        &["Docker's rules for published ports are missing", "8000 of container web", "restart docker"],
    );
    restart(&mut bed);
    is_well(&bed, &NETWORK, "the engine has put them there");
    bed.cluster.agents[0].process.freeze().unwrap();
    carry_out(&bed, "ip6tables -F SEXTANT-PUBLISHED");
    says(&bed, &NETWORK, &["lacks a rule that the agent keeps", "--dport 80 ", "start sextant-agent"]);
    bed.cluster.agents[0].process.thaw().unwrap();
    is_well(&bed, &NETWORK, "the agent has put them there");
}

/// Wrong networks, made while the agent does not look.
const KEPT: [Case; 5] = [
    case(
        "missing",
        &["docker network rm sextant"],
        &["Docker has no network sextant with OWN", "start sextant-agent"],
    ),
    case(
        "anothers",
        &["docker network rm sextant", "docker network create --ipv6 --subnet fd00:5::/64 sextant"],
        &["network sextant that the agent did not make, and it has fd00:5::/64"],
    ),
    case(
        "internal",
        &[
            "docker network rm sextant",
            "docker network create --ipv6 --internal --subnet OWN -o com.docker.network.bridge.name=sextant0 sextant",
        ],
        &["network sextant that the agent did not make, and it is internal"],
    ),
    case(
        "bridge taken",
        &[
            "docker network rm sextant",
            "docker network create -o com.docker.network.bridge.name=sextant0 mine",
        ],
        &["network mine is on the bridge sextant0"],
    ),
    case(
        "overlap",
        &["docker network rm sextant", "docker network create --ipv6 --subnet OWN compose_default"],
        &["network compose_default has OWN, which overlaps"],
    ),
];

#[test]
fn each_fault_of_a_network_that_the_agent_keeps_is_found_and_its_fix_works() {
    let engine = ["--experimental", "--ip6tables"];
    let bed = Bed::start_with("docker doctor network", 1, &[], &engine);
    is_well(&bed, &NETWORK, "at first");
    let agent = &bed.cluster.agents[0].process;
    for Case { name, wrong, words, .. } in &KEPT {
        agent.freeze().unwrap();
        wrong.iter().for_each(|command| carry_out(&bed, &filled(&bed, command)));
        let text = says(&bed, &NETWORK, words);
        let docker = commands(&text).into_iter().filter(|command| command.starts_with("docker"));
        docker.for_each(|command| carry_out(&bed, &command));
        agent.thaw().unwrap();
        bed.has_network(0);
        is_well(&bed, &NETWORK, name);
    }
    // The engine's firewall without the agent's rules.
    agent.freeze().unwrap();
    for command in [
        "ip6tables -P FORWARD DROP",
        "ip6tables -F FORWARD",
        "ip6tables -t nat -F POSTROUTING",
        "ip6tables -t nat -A POSTROUTING -s OWN ! -o sextant0 -j MASQUERADE",
    ] {
        carry_out(&bed, &filled(&bed, command));
    }
    says(&bed, &NETWORK, &["POOL to OWN", "-j MASQUERADE"]);
    agent.thaw().unwrap();
    is_well(&bed, &NETWORK, "the agent's rules are back");
    // Larger packets than the uplinks carry.
    bed.engines[0].container("web", &["--network", "sextant"]).unwrap();
    bed.cluster.hosts[0].ip("link set eth0 mtu 1300").unwrap();
    let text = says(&bed, &NETWORK, &["network sextant has MTU 1500, and this host's uplinks carry 1300"]);
    commands(&text).iter().for_each(|command| carry_out(&bed, command));
    is_well(&bed, &NETWORK, "the network has the uplinks' MTU");
}
