//! A controller with few descriptors and many connections.

use std::{
    net::{SocketAddrV6, TcpStream},
    time::Duration,
};

use sextant_tests::{ControllerOptions, Lab, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

/// Of the controller: 256 descriptors leave places for 160 connections.
const DESCRIPTORS: u32 = 256;

/// Connections to the controller on which nothing is said.
fn idle(cluster: &Cluster, count: usize) -> Vec<TcpStream> {
    let target = SocketAddrV6::new(Lab::controller_address(1), 7300, 0, 0).into();
    let connect = || -> Vec<TcpStream> {
        (0..count).filter_map(|_| TcpStream::connect_timeout(&target, SECONDS).ok()).collect()
    };
    cluster.hosts[0].enter(connect).unwrap()
}

/// What the controller has used of a processor so far.
fn processor_time(cluster: &Cluster) -> Duration {
    let pid = cluster.controller.as_ref().unwrap().process.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn metric(cluster: &Cluster, name: &str) -> u64 {
    let text = cluster.controller.as_ref().unwrap().http("/metrics").unwrap().1;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("sextant_controller_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn limited(test: &str, hosts: u16, (soft, hard): (u32, u32), args: &[&str]) -> Cluster {
    let mut cluster = Cluster::without_agents(test, hosts, GUIDE);
    cluster.controller = None;
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let descriptors = Some((soft, hard));
    cluster.start_controller(ControllerOptions { descriptors, args, ..ControllerOptions::default() });
    cluster
}

#[test]
fn idle_connections_beyond_the_limit_keep_nobody_out() {
    let mut cluster = limited("descriptors", 2, (64, DESCRIPTORS), &[]);
    assert_eq!(metric(&cluster, "connections_most"), 160, "the soft limit is raised to the hard one");
    let held = idle(&cluster, 400);
    let (began, used) = (std::time::Instant::now(), processor_time(&cluster));
    cluster.start_agent(0);
    cluster.start_agent(1);
    cluster.settle();
    assert!(cluster.sextant(&["status"]).starts_with("All is well with 2 nodes"));
    poll("the idle ones are closed", 20 * SECONDS, || {
        let open = metric(&cluster, "connections_open");
        if open < 10 { Ok(()) } else { Err(format!("{open} connections are open")) }
    });
    let (used, took) = (processor_time(&cluster) - used, began.elapsed());
    assert!(used * 2 < took, "{used:?} of a processor in {took:?}");
    let log = cluster.controller.as_ref().unwrap().process.log();
    let refused = log.lines().filter(|line| line.contains("connections refused")).count();
    assert!(refused <= 1, "{refused} lines of {}", metric(&cluster, "connections_refused"));
    drop(held);
}

#[test]
fn an_agent_without_a_place_says_why_and_operators_get_in() {
    let mut cluster = limited("full", 7, (DESCRIPTORS, DESCRIPTORS), &["--max-connections", "8"]);
    // Two of the eight places are for operators on the controller's host.
    (0..6).for_each(|index| cluster.start_agent(index));
    poll("six agents are connected", 20 * SECONDS, || {
        let open = metric(&cluster, "connections_open");
        if open == 6 { Ok(()) } else { Err(format!("{open} connections are open")) }
    });
    cluster.start_agent(6);
    let refused = &cluster.agents[6].process;
    refused.wait_for_line("this controller has 8 connections", 20 * SECONDS).unwrap();
    cluster.sextant(&["node", "list"]);
    assert!(metric(&cluster, "connections_refused") > 0);
    let log = cluster.controller.as_ref().unwrap().process.log();
    assert_eq!(log.lines().filter(|line| line.contains("connections refused")).count(), 1, "{log}");
    // A place that is given back is taken.
    cluster.agents.remove(5);
    poll("the seventh agent is connected", 20 * SECONDS, || {
        let node = cluster.node("h7");
        if node["connected"] == true { Ok(()) } else { Err(node.to_string()) }
    });
}
