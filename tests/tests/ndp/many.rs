//! Many containers with many addresses: a bridge has 1,023 ports.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv6Addr,
    ops::Range,
    time::{Duration, Instant},
};

use sextant_tests::{
    Agent, Asker, BRIDGE, Host, Namespace, SECONDS, Solicitation,
    cluster::{Cluster, PoolArgs},
    poll,
};

use super::{entries, outsider, start_in};

const POOL: PoolArgs = PoolArgs { prefix: "2001:db8:0:0:8000::/65", host_len: "66", container_len: "80" };
const PORTS: u32 = 1000;
/// So many namespaces have these ports' other ends.
const HOLDERS: u32 = 20;
/// Solicitations of one round of a measurement, and the neighbours that send them.
const ASKED: u32 = 10_000;
const NEIGHBOURS: u32 = 128;
/// Of several rounds, the cheapest counts: other processes of the machine make the others dearer.
const ROUNDS: u32 = 3;
/// Each of them reaches all ports.
const ASKED_AT_ONCE: u32 = 25;
/// How much more an answer may cost beside ten times as many addresses. To find an address takes as many steps beside any number; but
/// there is more memory to be looked at, so less of it is in the processor's caches.
const GROWN: f64 = 1.5;
/// The least time that counts, for a solicitation: of less, the kernel's ticks tell little.
const LEAST: f64 = 2e-6;

#[test]
#[ignore = "slow: a thousand links"]
fn the_agents_answer_costs_the_same_beside_five_thousand_addresses() {
    an_answer_costs_the_same("many agent", &["--ndp-mode", "prefix", "--ndp-source", "target"], 5);
}

#[test]
#[ignore = "slow: a thousand links"]
fn a_solicitation_that_the_kernel_answers_costs_the_agent_the_same_beside_five_thousand_addresses() {
    an_answer_costs_the_same("many prefix", &["--ndp-mode", "prefix"], 5);
}

#[test]
#[ignore = "slow: a thousand links"]
fn in_address_mode_it_costs_the_same_beside_a_thousand_addresses() {
    an_answer_costs_the_same("many address", &["--ndp-mode", "address"], 1);
}

/// Measures beside a tenth of the containers, and beside all of them.
fn an_answer_costs_the_same(name: &str, flags: &[&str], each: u32) {
    let cluster = start_in(&format!("ndp {name}"), 1, POOL, flags);
    let (host, outsider) = (&cluster.hosts[0], outsider(&cluster));
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    let container = host.container("many").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for holders in [0..HOLDERS / 10, HOLDERS / 10..HOLDERS] {
        all.extend(add(host, each, holders));
        let began = Instant::now();
        answered(host, &asker, &all);
        let after = began.elapsed();
        let groups = host.ip("-6 maddress show dev eth0").unwrap().lines().count();
        assert!(groups > all.len(), "{groups} groups");
        let (cost, idle) = cost(&cluster, &asker, &all);
        println!("{name}: {} addresses: {cost:?} a solicitation", all.len());
        let answer = median_answer(&asker, &all);
        println!(
            "{name}: {} addresses {after:?} after the last was added; agent: {cost:?} a solicitation, idle {:.1} % of a core; an answer \
             after {answer:?}",
            all.len(),
            100.0 * idle
        );
        seen.push(cost.as_secs_f64().max(LEAST));
    }
    assert!(seen[1] < GROWN * seen[0], "{name}: seconds beside a tenth, and beside all: {seen:?}");
    // A thousand ports may have more neighbours than the limits of a test machine permit, which are those of all its namespaces: that is
    // reported.
    let problems: serde_json::Value = serde_json::from_str(&super::problems(&cluster, "h1")).unwrap();
    let of_limits = ["neighbour-limits-low", "neighbour-table-full"];
    let of_answers = |it: &&serde_json::Value| !of_limits.iter().any(|what| it["what"] == *what);
    let others: Vec<_> = problems.as_array().unwrap().iter().filter(of_answers).collect();
    assert!(others.is_empty(), "{name}: {others:?}");
}

/// Waits until the kernel answers for all of them.
fn answered(host: &Host, asker: &Asker, all: &[Ipv6Addr]) {
    poll("the kernel answers for all", 240 * SECONDS, || {
        let found: BTreeSet<_> = entries(host).into_iter().collect();
        let missing: Vec<_> = all.iter().filter(|it| !found.contains(&it.to_string())).collect();
        // A switch may lose some of many announcements: they are found once somebody asks.
        for (neighbour, target) in (0..ASKED_AT_ONCE).zip(&missing) {
            asker.send(&from(neighbour, asker, **target).octets())?;
        }
        std::thread::sleep(SECONDS / 4);
        anyhow::ensure!(missing.is_empty(), "{} of {} are missing", missing.len(), all.len());
        Ok(())
    });
}

/// Adds ports with so many addresses each; containers announce theirs.
fn add(host: &Host, each: u32, holders: Range<u32>) -> Vec<Ipv6Addr> {
    let first = host.bridge_address().unwrap().0.to_bits() + 0x1000;
    let addresses = |port: u32| {
        (0..each).map(move |n| Ipv6Addr::from_bits(first + u128::from(port) * 0x10 + u128::from(n)))
    };
    let add = |n: u32| (n, host.container(&format!("m{n}")).unwrap());
    let containers: Vec<_> = holders.clone().map(add).collect();
    let ports = |holder: u32| (0..PORTS / HOLDERS).map(move |n| holder * (PORTS / HOLDERS) + n);
    let of_ports = |holder: u32, line: &dyn Fn(u32) -> String| ports(holder).map(line).collect::<String>();
    for (holder, container) in &containers {
        for scope in ["all", "default"] {
            container.sysctl(&format!("net/ipv6/conf/{scope}/ndisc_notify"), "1").unwrap();
        }
        let netns = Namespace::name(container);
        let link = |port| {
            format!(
                "link add vx{port} type veth peer name c{port} netns {netns}\nlink set vx{port} master {BRIDGE} up\n"
            )
        };
        host.ip_batch(&of_ports(*holder, &link)).unwrap();
        container.ip_batch(&of_ports(*holder, &|port| format!("link set c{port} up\n"))).unwrap();
    }
    // A bridge forwards once it has heard of the carrier.
    poll("all ports forward", 60 * SECONDS, || {
        let shown = host.check(&["bridge", "link", "show"])?;
        let forwarding = shown.lines().filter(|line| line.contains("state forwarding")).count() as u32;
        let expected = PORTS / HOLDERS * (containers.last().map_or(0, |it| it.0) + 1);
        anyhow::ensure!(forwarding > expected, "{forwarding} do");
        Ok(())
    });
    for (holder, container) in &containers {
        let line = |port| addresses(port).map(|it| format!("address add {it}/128 dev c{port}\n")).collect();
        container.ip_batch(&of_ports(*holder, &line)).unwrap();
    }
    holders.flat_map(ports).flat_map(addresses).collect()
}

/// The agent's user time for a solicitation besides what it uses without any, and the share of a core that this is. It reads no file for
/// a solicitation.
fn cost(cluster: &Cluster, asker: &Asker, targets: &[Ipv6Addr]) -> (Duration, f64) {
    let each: Vec<_> = (0..ROUNDS).map(|_| cost_of_round(&cluster.agents[0], asker, targets)).collect();
    let least = |which: fn(&(f64, f64)) -> f64| each.iter().map(which).fold(f64::INFINITY, f64::min);
    (Duration::from_secs_f64(least(|it| it.0).max(0.0)), least(|it| it.1))
}

fn cost_of_round(agent: &Agent, asker: &Asker, targets: &[Ipv6Addr]) -> (f64, f64) {
    let pid = agent.process.pid();
    // It looks at the kernel's entries every two seconds.
    let idle = used(pid, 8 * SECONDS, || {});
    let before = heard(agent);
    let spent = used(pid, 4 * SECONDS, || {
        for number in 0..ASKED {
            let target = targets[number as usize % targets.len()];
            let frame = from(number, asker, target).octets();
            // The machine's queues may be full.
            while asker.send(&frame).is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENOBUFS)) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if number % 4 == 0 {
                // Some two thousand a second: beside five thousand groups, the kernel itself hardly takes more.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Its counts are a tenth of a second old.
        std::thread::sleep(SECONDS / 4);
    });
    asker.forget().unwrap();
    let heard = heard(agent) - before;
    assert!(heard > f64::from(ASKED) / 2.0, "{heard} of {ASKED} solicitations were heard");
    let share = spent.2 / idle.2;
    let read = spent.1.saturating_sub((idle.1 as f64 * share) as u64);
    // Meanwhile the sysctls of all ports may be compared with what they should be.
    assert!(read < u64::from(ASKED) / 2, "files were read {read} times for {ASKED} solicitations");
    ((spent.0 - idle.0 * share) / heard, idle.0 / idle.2)
}

/// How many solicitations the agent has answered, or has left to the kernel.
fn heard(agent: &Agent) -> f64 {
    let (_, metrics) = agent.metrics("text/plain").unwrap();
    let kinds = ["answers_total{kind=\"multicast\"}", "refused_total{reason=\"kernel\"}"];
    let names = kinds.map(|kind| format!("sextant_agent_ndp_{kind} "));
    let values =
        metrics.lines().filter_map(|line| names.iter().find_map(|name| line.strip_prefix(name.as_str())));
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// How long an answer takes, of the kernel or of the agent.
fn median_answer(asker: &Asker, targets: &[Ipv6Addr]) -> Duration {
    let some = targets.iter().step_by((targets.len() / 100).max(1));
    // A full queue of the machine may drop one.
    let ask = |target: Ipv6Addr| {
        let mut took = SECONDS;
        poll("it is answered", 20 * SECONDS, || {
            took = asker.ask(&asker.solicitation(target), SECONDS / 4)?.1;
            anyhow::Ok(())
        });
        took
    };
    let mut all: Vec<_> = some.map(|target| ask(*target)).collect();
    all.sort();
    all[all.len() / 2]
}

/// A solicitation of one of the neighbours.
fn from(number: u32, asker: &Asker, target: Ipv6Addr) -> Solicitation {
    let [.., high, low] = (number % NEIGHBOURS).to_be_bytes();
    Solicitation::new([2, 0x55, 0, 0, high, low], asker.source, target)
}

/// The seconds of user time, and the reads of files, during an action, and at least so long; and how long that was.
fn used(pid: u32, least: Duration, action: impl FnOnce()) -> (f64, u64, f64) {
    let (before, began) = (usage(pid), Instant::now());
    action();
    std::thread::sleep(least.saturating_sub(began.elapsed()));
    let after = usage(pid);
    (after.0 - before.0, after.1 - before.1, began.elapsed().as_secs_f64())
}

/// `utime` of proc_pid_stat(5), in ticks of 10 ms, and `syscr` of proc_pid_io(5).
fn usage(pid: u32) -> (f64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat.rsplit(") ").next().and_then(|it| it.split(' ').nth(11)).unwrap().parse().unwrap();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap();
    (ticks / 100.0, read)
}
