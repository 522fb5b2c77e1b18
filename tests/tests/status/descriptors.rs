//! A controller with few descriptors and many connections.

use std::{
    net::{SocketAddrV6, TcpStream},
    time::Duration,
};

use sextant_proto::v1::{
    self, admin_service_client::AdminServiceClient, agent_service_client::AgentServiceClient,
};
use sextant_tests::{ControllerOptions, Lab, SECONDS, poll};
use tonic::{Code, transport::Endpoint};

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
fn idle_connections_beyond_the_limit_block_no_agent() {
    let mut cluster = limited("descriptors", 2, (64, DESCRIPTORS), &[]);
    assert_eq!(metric(&cluster, "connections_most"), 160, "the soft limit is raised to the hard one");
    let held = idle(&cluster, 400);
    let (began, used) = (std::time::Instant::now(), processor_time(&cluster));
    cluster.start_agent(0);
    cluster.start_agent(1);
    cluster.settle();
    assert!(cluster.sextant(&["status"]).starts_with("All is well: 2 nodes"));
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
fn an_agent_beyond_the_limit_reports_why_and_operators_can_connect() {
    let mut cluster = limited("full", 7, (DESCRIPTORS, DESCRIPTORS), &["--max-connections", "8"]);
    // Two of the eight places are for operators on the controller's host.
    (0..6).for_each(|index| cluster.start_agent(index));
    poll("six agents are connected", 20 * SECONDS, || {
        let open = metric(&cluster, "connections_open");
        if open == 6 { Ok(()) } else { Err(format!("{open} connections are open")) }
    });
    cluster.start_agent(6);
    let refused = &cluster.agents[6].process;
    refused.wait_for_line("this controller has reached its limit of 8 connections", 20 * SECONDS).unwrap();
    cluster.sextant(&["node", "list"]);
    assert!(metric(&cluster, "connections_refused") > 0);
    let log = cluster.controller.as_ref().unwrap().process.log();
    assert_eq!(log.lines().filter(|line| line.contains("connections refused")).count(), 1, "{log}");
    // A place that is given back is taken.
    cluster.agents.remove(5);
    poll("the seventh agent is connected", 20 * SECONDS, || {
        let node = cluster.node("h7");
        let (open, refused) = (metric(&cluster, "connections_open"), metric(&cluster, "connections_refused"));
        if node["connected"] == true {
            Ok(())
        } else {
            Err(format!("{open} open, {refused} refused; {node}"))
        }
    });
}

/// Clients that answer HTTP/2 pings for ever, and ask for nothing any more.
#[test]
fn idle_connections_are_closed_and_streams_stay() {
    const CLIENTS: u64 = 20;
    let mut cluster = limited("idle", 1, (DESCRIPTORS, DESCRIPTORS), &["--idle-timeout", "2"]);
    cluster.start_agent(0);
    cluster.settle();
    let sessions = || cluster.agents[0].process.log().matches("\"subject\":\"session\"").count();
    let before = sessions();
    assert!(before > 0, "the agent's session is logged");

    // The threads begin, and stay, on the host.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = cluster.hosts[0].enter(|| runtime.worker_threads(1).enable_all().build()).unwrap().unwrap();
    let endpoint = Endpoint::from_shared(sextant_tests::lab::daemons::controller_url(1)).unwrap();
    let clients = runtime.spawn(async move {
        let mut held = Vec::new();
        for _ in 0..CLIENTS {
            let channel = endpoint.connect().await.unwrap();
            let mut client = AdminServiceClient::new(channel.clone());
            client.list_pools(v1::ListPoolsRequest {}).await.unwrap();
            held.push(channel);
        }
        // A stream on which nothing is said, and one that waits for what is to come.
        let mut silent = AgentServiceClient::new(endpoint.connect().await.unwrap());
        let refused = silent.sync(tokio_stream::pending()).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
        let mut events = AdminServiceClient::new(endpoint.connect().await.unwrap());
        let request = v1::EventsRequest { follow: true, ..v1::EventsRequest::default() };
        (held, silent, events.events(request).await.unwrap().into_inner())
    });
    let (_held, _silent, mut events) = runtime.block_on(clients).unwrap();
    poll("the idle ones are closed", 20 * SECONDS, || {
        let (open, idle) = (metric(&cluster, "connections_open"), metric(&cluster, "connections_idle"));
        if (open, idle) == (2, CLIENTS + 1) { Ok(()) } else { Err(format!("{open} open, {idle} closed")) }
    });
    // The streams outlive several of those times.
    let passed = std::time::Instant::now() + 6 * SECONDS;
    poll("time passes", 20 * SECONDS, || if std::time::Instant::now() > passed { Ok(()) } else { Err("") });
    assert_eq!(sessions(), before, "the agent's stream was not touched");
    cluster.sextant(&["reserve", "2001:db8:80ff:1::/64"]);
    let reported = runtime.block_on(async {
        while let Some(event) = events.message().await.unwrap() {
            if event.what == "reserved" {
                return true;
            }
        }
        false
    });
    assert!(reported, "the operator's stream still tells what comes");
    assert_eq!(cluster.node("h1")["connected"], true);
}
