//! Failures that other systems are known for, each on a real etcd.

use std::{thread, time::Duration};

use serde_json::Value;
use sextant_tests::{
    Agent, AgentOptions, Controller, ControllerOptions, Etcd, Host, Lab, RouteMonitor, SECONDS,
    claims::claimers::{self, Desk},
    claims::history::Heard,
    poll,
};

/// Longer than anything should take.
const LONG: Duration = Duration::from_secs(40);

struct Cluster {
    agents: Vec<Agent>,
    controllers: Vec<Controller>,
    etcd: Etcd,
    hosts: Vec<Host>,
    lab: Lab,
}

impl Cluster {
    /// With so many members, controllers and hosts, and a pool; agents are not started yet.
    fn start(test: &str, [members, controllers, hosts]: [u16; 3], pool: &str, args: &[&str]) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = lab.etcd(members.into(), &["--heartbeat-interval=50", "--election-timeout=500"]).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let mut cluster = Self { agents: Vec::new(), controllers: Vec::new(), etcd, hosts, lab };
        (1..=controllers).for_each(|number| cluster.start_controller(number, args));
        cluster.sextant(&["pool", "add", "main", pool, "--host-len", "64", "--container-len", "80"]);
        cluster
    }

    fn start_controller(&mut self, number: u16, args: &[&str]) {
        let args = ["--down-after", "1"].iter().chain(args).map(|&arg| arg.to_owned()).collect();
        let (store, log) = (Some(self.etcd.store()), "info".to_owned());
        let options = ControllerOptions { number, store, args, log, ..ControllerOptions::default() };
        let controller = self.lab.controller(options).unwrap();
        controller.wait_ready(LONG).unwrap();
        self.controllers.push(controller);
    }

    fn start_agent(&mut self, index: usize, controllers: &[u16]) {
        let options = AgentOptions { controllers: controllers.to_vec(), ..AgentOptions::default() };
        self.agents.push(self.lab.agent(&self.hosts[index], options).unwrap());
    }

    fn sextant(&self, args: &[&str]) -> String {
        self.lab.cli(args).unwrap().succeeded().unwrap().stdout
    }

    fn node(&self, name: &str) -> Value {
        let nodes = self.lab.cli_json(&["node", "list"]).unwrap();
        let found = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }

    fn wait(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        poll(&format!("{name} {what}"), LONG, || {
            let node = self.node(name);
            if is(&node) { Ok(node) } else { Err(format!("{node}")) }
        })
    }

    fn wait_ready(&self, name: &str) -> Value {
        self.wait(name, "is ready", |node| node["state"] == "ready" && node["connected"] == true)
    }
}

/// flannel #1289, #805: the returning host went on with what another one had leased by then.
#[test]
fn i3_a_prefix_that_is_anothers_is_not_seized_by_who_comes_back() {
    let mut cluster = Cluster::start("not seized", [1, 1, 2], "2001:db8:9::/64", &[]);
    cluster.start_agent(0, &[1]);
    let before = cluster.wait_ready("h1");
    cluster.agents[0].process.freeze().unwrap();
    cluster.wait("h1", "is down", |node| node["connected"] == false);
    cluster.sextant(&["node", "forget", "h1", "--force"]);
    cluster.start_agent(1, &[1]);
    let holder = cluster.wait_ready("h2");
    assert_eq!(holder["prefix"], before["prefix"], "a pool of one");
    cluster.agents[0].process.thaw().unwrap();
    let agent = &cluster.agents[0].process;
    agent.wait_for_line("taking down what it had", LONG).unwrap();
    let told = agent.wait_for_line("is exhausted", LONG).unwrap().text;
    assert!(told.contains("1 claims") && told.contains("sextant node forget"), "{told}");
    // The pool's own unreachable route is as long as the prefix, and stays.
    poll("h1's bridge has no address of it any more", LONG, || {
        let addresses = cluster.hosts[0].ip("-6 address show dev docker0")?;
        anyhow::ensure!(!addresses.contains("2001:db8:9:"), "{addresses}");
        anyhow::Ok(())
    });
    let after = cluster.wait_ready("h2");
    assert_eq!((&after["epoch"], &after["prefix"]), (&holder["epoch"], &holder["prefix"]), "untouched");
    assert!(cluster.node("h1").is_null());
}

/// flannel #1329: reservations came back from a restart as leases, which end.
#[test]
fn reservations_stay_reservations_over_restarts_of_everything() {
    let mut cluster = Cluster::start("reservations", [1, 1, 2], "2001:db8:9::/62", &[]);
    cluster.sextant(&["reserve", "2001:db8:9::/64", "--reason", "the router"]);
    cluster.sextant(&["reserve", "2001:db8:9:2::/64", "--node", "h2"]);
    let refused = cluster.lab.cli(&["reserve", "2001:db8:9::/63"]).unwrap();
    assert!(refused.code == 4 && refused.stderr.contains("2001:db8:9::/64"), "{refused:?}");
    let before = cluster.lab.cli_json(&["reservations"]).unwrap();
    cluster.controllers.clear();
    cluster.etcd.kill().unwrap();
    cluster.etcd.restart(&cluster.lab).unwrap();
    cluster.start_controller(1, &[]);
    assert_eq!(cluster.lab.cli_json(&["reservations"]).unwrap(), before);
    cluster.start_agent(0, &[1]);
    cluster.start_agent(1, &[1]);
    let (h1, h2) = (cluster.wait_ready("h1"), cluster.wait_ready("h2"));
    assert_eq!(h2["prefix"], "2001:db8:9:2::/64", "just what was reserved for it");
    assert!(["2001:db8:9:1::/64", "2001:db8:9:3::/64"].iter().any(|free| h1["prefix"] == *free), "{h1}");
    cluster.sextant(&["unreserve", "2001:db8:9::/64"]);
    let left = cluster.lab.cli_json(&["reservations"]).unwrap();
    assert!(left.as_array().unwrap().len() == 1 && left[0]["held"] == true, "{left}");
}

/// flannel #875: 200 leases of hosts that were long gone left nothing for a new one.
#[test]
fn two_hundred_dead_hosts_do_not_exhaust_the_pool() {
    let mut cluster = Cluster::start("dead hosts", [1, 1, 1], "2001:db8:9::/56", &[]);
    let threads = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = cluster.lab.switch().enter(threads).unwrap().unwrap();
    let desk = {
        let _inside = runtime.enter();
        claimers::Controller::at(&cluster.controllers[0].url()).unwrap()
    };
    // They claim, and are never heard of again.
    let claims = runtime.spawn(async move {
        for n in 0..256 {
            let heard = desk.claim(&format!("dead{n}"), sextant_proto::NodeId::random(), 0).await;
            assert!(matches!(heard, Heard::Done(_)), "{n}: {heard:?}");
        }
    });
    runtime.block_on(claims).unwrap();
    cluster.start_agent(0, &[1]);
    let told = cluster.agents[0].process.wait_for_line("is exhausted", LONG).unwrap().text;
    for word in ["256 of the claims are of nodes whose agents are gone", "--hold-down", "sextant node forget"]
    {
        assert!(told.contains(word), "{told}");
    }
    cluster.controllers.clear();
    cluster.start_controller(1, &["--hold-down", "2"]);
    cluster.wait_ready("h1");
    poll("the dead have ended", LONG, || {
        let nodes = cluster.lab.cli_json(&["node", "list"])?;
        let left = nodes.as_array().map_or(0, Vec::len);
        anyhow::ensure!(left == 1, "{left} are left");
        anyhow::Ok(())
    });
}

/// flannel #2470: a compacted watch was asked for again and again, gigabytes of log long.
#[test]
fn compaction_writes_few_lines_of_log() {
    let mut cluster = Cluster::start("compaction", [1, 2, 1], "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.wait_ready("h1");
    let before: usize = cluster.controllers.iter().map(|it| it.process.log_len()).sum();
    for round in 0..20 {
        // A controller that hears nothing for a while is behind what is compacted meanwhile.
        cluster.controllers[1].process.freeze().unwrap();
        let key = format!("/sextant/v1/default/later/{round}");
        for _ in 0..5 {
            cluster.etcd.etcdctl(&cluster.lab, &["put", &key, "x"]).unwrap();
        }
        let status = cluster.etcd.etcdctl(&cluster.lab, &["get", &key, "-w", "json"]).unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        let revision = status["header"]["revision"].to_string();
        cluster.etcd.etcdctl(&cluster.lab, &["compaction", &revision]).unwrap();
        cluster.controllers[1].process.thaw().unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    cluster.sextant(&["reserve", "2001:db8:9:5::/64"]);
    for number in [1, 2] {
        poll("both follow the store", LONG, || {
            let out = cluster.lab.cli_of(number, &["reservations"])?.succeeded()?.stdout;
            anyhow::ensure!(out.contains("2001:db8:9:5::/64"), "{out}");
            anyhow::Ok(())
        });
    }
    let written = cluster.controllers.iter().map(|it| it.process.log_len()).sum::<usize>() - before;
    assert!(written < 100_000, "{written} octets of log");
}

/// etcd #9395: each new leader began the leases anew, so those of dead nodes never ended.
#[test]
fn a_dead_controllers_sessions_end_though_the_leader_changes() {
    let mut cluster = Cluster::start("leaders", [3, 2, 1], "2001:db8:9::/48", &[]);
    // It knows of the one that dies only.
    cluster.start_agent(0, &[2]);
    cluster.wait_ready("h1");
    cluster.controllers[1].process.kill().unwrap();
    let began = std::time::Instant::now();
    let is_over = |cluster: &Cluster| cluster.node("h1")["connected"] == false;
    let mut changes = 0;
    while !is_over(&cluster) {
        assert!(
            began.elapsed() < 60 * SECONDS,
            "still live after {:?} and {changes} leaders",
            began.elapsed()
        );
        let member = changes % 3;
        cluster.etcd.member(member).freeze().unwrap();
        thread::sleep(Duration::from_millis(1200));
        cluster.etcd.member(member).thaw().unwrap();
        thread::sleep(Duration::from_millis(800));
        changes += 1;
    }
}

/// Calico #5173, #11169: a server with an old view made agents delete routes that were right.
#[test]
fn i6_a_controller_with_an_old_view_takes_no_route_away() {
    let mut cluster = Cluster::start("old view", [3, 2, 3], "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.wait_ready("h1");
    // From here on controller 2 sees nothing of the store: it does not know h2 and h3.
    cluster.controllers[1].process.freeze().unwrap();
    cluster.start_agent(1, &[1]);
    cluster.start_agent(2, &[1]);
    cluster.wait_ready("h2");
    cluster.wait_ready("h3");
    cluster.sextant(&["wait", "--timeout", "30s"]);
    let before = cluster.hosts[0].routes_of(66).unwrap();
    assert!(before.len() >= 4, "{before:?}");
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    // All of etcd stops before it goes on, so that it cannot learn better, and is all that h1 has left.
    (0..3).for_each(|member| cluster.etcd.member(member).freeze().unwrap());
    let moved = cluster.agents[0].process.log_len();
    cluster.controllers[0].process.kill().unwrap();
    cluster.controllers[1].process.thaw().unwrap();
    cluster.agents[0].process.wait_for_line_after(moved, "2001:db8::c:2", LONG).unwrap();
    // Longer than down_after, by the agent's own keepalives.
    thread::sleep(Duration::from_secs(4));
    monitor.quiet_since(0).unwrap();
    assert_eq!(cluster.hosts[0].routes_of(66).unwrap(), before);
    (0..3).for_each(|member| cluster.etcd.member(member).thaw().unwrap());
    poll("h1 is at controller 2, which knows all three", LONG, || {
        let nodes = cluster.lab.cli_of(2, &["-o", "json", "node", "list"])?.succeeded()?.stdout;
        let nodes: Vec<Value> = serde_json::from_str(&nodes)?;
        let h1 = nodes.iter().find(|node| node["name"] == "h1");
        let there = h1.is_some_and(|node| node["connected"] == true && node["behind"] == 0);
        anyhow::ensure!(nodes.len() == 3 && there, "{nodes:?}");
        anyhow::Ok(())
    });
    monitor.quiet_since(0).unwrap();
}
