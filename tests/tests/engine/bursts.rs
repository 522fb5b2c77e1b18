//! Many links of containers at once.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use sextant_tests::{BRIDGE, Namespace, SECONDS, poll};

use crate::testbed::Testbed;

const PORTS: usize = 200;
/// The host is looked at that often while links of containers come.
const LOOK: Duration = Duration::from_secs(2);
/// Passes besides: the end of the burst, a check of the host, a retry.
const FEW: u64 = 3;

/// Changes the links, waits until the agent has seen it, and checks how often it has compared the host with what it should be.
fn costs_few_passes(testbed: &Testbed, what: &str, change: impl FnOnce()) {
    let passes = || testbed.cluster.agents[0].metric("passes_total").unwrap();
    let (before, began) = (passes(), Instant::now());
    change();
    std::thread::sleep(LOOK + SECONDS);
    let (count, took) = (passes() - before, began.elapsed());
    println!("{what}: {count} passes in {took:?}");
    let most = took.as_millis().div_ceil(LOOK.as_millis()) as u64 + FEW;
    assert!(count <= most, "{what}: {count} passes in {took:?}");
}

#[test]
fn a_burst_of_ports_costs_a_few_passes() {
    let testbed = Testbed::start("burst of ports", 1);
    let host = testbed.host();
    let container = host.container("c").unwrap();
    let netns = Namespace::name(&container);
    let (mut made, mut up, mut gone) = (String::new(), String::new(), String::new());
    for n in 0..PORTS {
        let _ = writeln!(made, "link add vx{n} type veth peer name vy{n} netns {netns}");
        let _ = writeln!(made, "link set vx{n} master {BRIDGE} up");
        let _ = writeln!(up, "link set vy{n} up");
        let _ = writeln!(gone, "link del vx{n}");
    }
    costs_few_passes(&testbed, "ports that come", || {
        host.ip_batch(&made).unwrap();
        container.ip_batch(&up).unwrap();
    });
    poll("all ports have carrier", 20 * SECONDS, || {
        let shown = host.check(&["bridge", "link", "show"])?;
        let count = shown.lines().filter(|line| line.contains("state forwarding")).count();
        anyhow::ensure!(count > PORTS, "{count} have");
        Ok(())
    });
    costs_few_passes(&testbed, "ports that flap", || {
        container.ip_batch(&up.replace(" up", " down")).unwrap();
        container.ip_batch(&up).unwrap();
    });
    costs_few_passes(&testbed, "ports that go", || host.ip_batch(&gone).map(drop).unwrap());
}
