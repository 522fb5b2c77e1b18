//! A condition that lasts is one warning when it begins, and one each minute.

use std::{thread::sleep, time::Instant};

use sextant_tests::{
    AgentOptions, ControllerOptions, Lab, Process, SECONDS,
    cluster::{Cluster, GUIDE},
};

/// Less than the interval of reminders, more than many attempts.
const WATCHED: std::time::Duration = std::time::Duration::from_secs(20);

fn lines(process: &Process, text: &str) -> Vec<String> {
    let log = process.log();
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn several_dead_controllers_are_one_warning_each_and_then_one_condition() {
    let lab = Lab::new("dead controllers").unwrap();
    let host = lab.host("h1").unwrap();
    let options = AgentOptions { controllers: vec![1, 2, 3], ..AgentOptions::default() };
    let agent = lab.agent(&host, options).unwrap();
    let began = Instant::now();
    agent.process.wait_for_line("2001:db8::c:3", 10 * SECONDS).unwrap();
    // Attempts go on meanwhile; no condition tells when a line does not come.
    sleep(WATCHED.saturating_sub(began.elapsed()));
    let warned = lines(&agent.process, "not connected to a controller");
    assert!((1..=6).contains(&warned.len()), "{warned:#?}");
}

#[test]
fn a_route_that_is_fought_over_is_reported_once_a_minute() {
    let cluster = Cluster::start("fought over", 2, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h2"));
    let foreign = format!("{prefix} via 2001:db8::2 dev eth0 proto static metric 100");
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        host.ip(&format!("-6 route add {foreign}")).unwrap();
        sleep(SECONDS / 2);
        host.ip(&format!("-6 route del {foreign}")).unwrap();
        sleep(SECONDS / 2);
    }
    let warned = lines(&cluster.agents[0].process, "route of another process takes packets from ours");
    assert_eq!(warned.len(), 1, "{warned:#?}");
}

#[test]
fn several_dead_etcd_members_are_one_warning_each_and_then_one_condition() {
    let lab = Lab::new("dead etcd members").unwrap();
    let store = "etcd:http://[2001:db8::c:1]:2379,http://[2001:db8::c:1]:2381,http://[2001:db8::c:1]:2383";
    let options = ControllerOptions { store: Some(store.to_owned()), ..ControllerOptions::default() };
    let controller = lab.controller(options).unwrap();
    controller.process.wait_for_line("store does not answer yet", 20 * SECONDS).unwrap();
    sleep(WATCHED);
    let failed = lines(&controller.process, "etcd member failed");
    assert!((1..=6).contains(&failed.len()), "{failed:#?}");
    assert_eq!(lines(&controller.process, "store does not answer yet").len(), 1);
}
