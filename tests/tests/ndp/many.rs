//! Many containers with many addresses: a bridge has 1,023 ports.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv6Addr,
    ops::Range,
    time::{Duration, Instant},
};

use sextant_tests::{Asker, BRIDGE, Host, Namespace, SECONDS, Solicitation, cluster::PoolArgs, poll};

use super::{entries, outsider, start_in};

const POOL: PoolArgs = PoolArgs { prefix: "2001:db8:0:0:8000::/65", host_len: "66", container_len: "80" };
const PORTS: u32 = 1000;
/// So many namespaces have these ports' other ends.
const HOLDERS: u32 = 20;
/// Solicitations of one measurement, and the neighbours that send them.
const ASKED: u32 = 20_000;
const NEIGHBOURS: u32 = 128;
/// Each of them reaches all ports.
const ASKED_AT_ONCE: u32 = 25;
/// How much more an answer may cost beside ten times as many addresses.
const GROWN: f64 = 5.0;

#[test]
#[ignore = "slow: a thousand links"]
fn beside_a_thousand_containers_with_five_addresses_each_an_answer_costs_less_than_in_proportion() {
    for (mode, each) in [("prefix", 5), ("address", 1)] {
        let cluster = start_in("ndp many", 1, POOL, &["--ndp-mode", mode]);
        let (host, outsider) = (&cluster.hosts[0], outsider(&cluster));
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let container = host.container("many").unwrap();
        poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
        let mut all = add(host, each, 0..HOLDERS / 10);
        answered(host, &asker, &all);
        let (few, before) = (cost(&cluster, &asker, &all), all.len());
        let began = Instant::now();
        all.extend(add(host, each, HOLDERS / 10..HOLDERS));
        answered(host, &asker, &all);
        println!("{mode}: {} addresses after {:?}", all.len(), began.elapsed());
        for target in all.iter().step_by(97) {
            asker.ask(&asker.solicitation(*target), SECONDS).unwrap();
        }
        let groups = host.ip("-6 maddress show dev eth0").unwrap().lines().count();
        assert!(groups > all.len(), "{groups} groups");
        let many = cost(&cluster, &asker, &all);
        println!("{mode}: {few:?} with {before} addresses, {many:?} with {}", all.len());
        assert!(many.as_secs_f64() < GROWN * few.as_secs_f64() + 1e-6, "{many:?} instead of {few:?}");
        assert_eq!(super::problems(&cluster, "h1"), "[]");
    }
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

/// The agent's processor time for a solicitation. It reads no file for one.
fn cost(cluster: &sextant_tests::cluster::Cluster, asker: &Asker, targets: &[Ipv6Addr]) -> Duration {
    let pid = cluster.agents[0].process.pid();
    // It looks at the kernel's entries every two seconds.
    let idle = used(pid, 8 * SECONDS, || {});
    let spent = used(pid, 8 * SECONDS, || {
        for number in 0..ASKED {
            let target = targets[number as usize % targets.len()];
            asker.send(&from(number, asker, target).octets()).unwrap();
            if number % 20 == 0 {
                // Twenty thousand a second.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    asker.forget().unwrap();
    let share = spent.2.as_secs_f64() / idle.2.as_secs_f64();
    let read = spent.1.saturating_sub((idle.1 as f64 * share) as u64);
    assert!(read < u64::from(ASKED), "{read} octets of files were read for {ASKED} solicitations");
    spent.0.saturating_sub(idle.0.mul_f64(share)) / ASKED
}

/// A solicitation of one of the neighbours.
fn from(number: u32, asker: &Asker, target: Ipv6Addr) -> Solicitation {
    let [.., high, low] = (number % NEIGHBOURS).to_be_bytes();
    Solicitation::new([2, 0x55, 0, 0, high, low], asker.source, target)
}

/// The processor time, and the octets that are read from files, during an action, and at least so long; and how long that was.
fn used(pid: u32, least: Duration, action: impl FnOnce()) -> (Duration, u64, Duration) {
    let (before, began) = (usage(pid), Instant::now());
    action();
    std::thread::sleep(least.saturating_sub(began.elapsed()));
    let after = usage(pid);
    (after.0 - before.0, after.1 - before.1, began.elapsed())
}

/// proc_pid_schedstat(5), in nanoseconds, and `rchar` of proc_pid_io(5).
fn usage(pid: u32) -> (Duration, u64) {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
    }
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    (Duration::from_nanos(nanos), read)
}
