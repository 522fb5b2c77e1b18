//! The topology `ndp-proxy`: prefixes inside of the link's own, which nobody routes to the hosts.

#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod answers;
mod changes;
mod conformance;
mod disturbed;
mod doctor;
mod drained;
mod lasting;
mod many;
mod uplinks;
mod views;

use std::time::Duration;

use sextant_tests::{
    AgentOptions, Container, Host, MILLISECONDS,
    cluster::{Cluster, PoolArgs},
};

/// As in Docker's guide: parts of the link's /64.
const INSIDE: PoolArgs = PoolArgs { prefix: "2001:db8::c000/116", host_len: "125", container_len: "125" };
const MODES: [&str; 2] = ["prefix", "address"];

/// Hosts with agents, set up.
fn start(test: &str, hosts: u16, flags: &[&str]) -> Cluster {
    start_in(test, hosts, INSIDE, flags)
}

fn start_in(test: &str, hosts: u16, pool: PoolArgs, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::without_agents(test, hosts, pool);
    for host in 0..cluster.hosts.len() {
        cluster.start_agent_with(host, options(flags));
    }
    cluster.settle();
    cluster
}

fn options(flags: &[&str]) -> AgentOptions {
    let args = ["--topology", "ndp-proxy"].iter().chain(flags).map(|&flag| flag.to_owned()).collect();
    AgentOptions { args, ..AgentOptions::default() }
}

/// Somebody on the link who knows only the link's prefix.
fn outsider(cluster: &Cluster) -> Host {
    cluster.lab.router().unwrap()
}

/// The proxy entries of the uplink.
fn entries(host: &Host) -> Vec<String> {
    let shown = host.ip("-6 neighbour show proxy dev eth0").unwrap();
    let mut all: Vec<_> = shown.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    all.sort();
    all
}

/// The problems that a host reports.
fn problems(cluster: &Cluster, node: &str) -> String {
    cluster.node(node)["applied"]["problems"].to_string()
}

/// Pings every 20 ms for so many seconds; returns what ping says of losses.
fn losses(from: &Host, to: std::net::Ipv6Addr, secs: u32) -> String {
    let count = (secs * 50).to_string();
    let output =
        from.run(&["ping", "-6", "-n", "-i", "0.02", "-c", &count, "-W", "1", &to.to_string()]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.contains("packets transmitted")).unwrap_or(&text).to_owned()
}

/// Pings every 20 ms for so many seconds; returns how long each row of lost packets was. A machine with full queues loses single packets;
/// a neighbour that has no answer loses all for some seconds.
fn outages(from: &Host, to: std::net::Ipv6Addr, secs: u32) -> Vec<Duration> {
    let count = secs * 50;
    let output = from
        .run(&["ping", "-6", "-n", "-i", "0.02", "-c", &count.to_string(), "-W", "1", &to.to_string()])
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<u16>().ok();
    // Numbers are of 16 bits.
    let numbers: Vec<_> = text.lines().filter_map(number).chain([(count + 1) as u16]).collect();
    let before = [0].into_iter().chain(numbers.iter().copied());
    let lost = before.zip(&numbers).map(|(before, now)| u32::from(now.wrapping_sub(before).wrapping_sub(1)));
    lost.filter(|lost| (1..0x8000).contains(lost)).map(|lost| 20 * MILLISECONDS * lost).collect()
}

fn end(host: &Host, container: &Container) {
    host.ip(&format!("link del {}", port(host, container))).unwrap();
}

/// The host's end of a container's link: the port whose other end is in the container.
fn port(host: &Host, container: &Container) -> String {
    let other = container.ip("-o link show dev eth0").unwrap();
    let index = other.split("@if").nth(1).and_then(|rest| rest.split(':').next()).unwrap().to_owned();
    let links = host.ip("-o link show").unwrap();
    let line = links.lines().find(|line| line.starts_with(&format!("{index}: "))).unwrap();
    line.split([' ', '@']).nth(1).unwrap().to_owned()
}
