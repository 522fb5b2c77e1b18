//! A cluster for disturbances, and the checks of its state afterwards.

use std::process::Output;

use sextant_tests::{
    AgentOptions, ControllerOptions, Host, MILLISECONDS, SECONDS, UdpStream, bin,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::host_state::HostState;

/// The number of warnings from which the log is a flood.
const FLOOD: usize = 20;

pub struct Testbed {
    pub cluster: Cluster,
    before: Vec<HostState>,
    foreign: Vec<String>,
}

impl Testbed {
    /// Starts hosts with agents, and records the hosts' state before the agents.
    pub fn start(test: &str, hosts: u16) -> Self {
        Self::with_options(test, hosts, &AgentOptions::default())
    }

    pub fn with_options(test: &str, hosts: u16, options: &AgentOptions) -> Self {
        let mut cluster = Cluster::without_agents(test, hosts, GUIDE);
        // Without a recovery window (DESIGN I6), agents remove routes of unknown nodes at once.
        cluster.controller = None;
        let args = ["--recovery-window", "0"].map(str::to_owned).to_vec();
        cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
        let before = cluster.hosts.iter().map(HostState::of).collect();
        for host in &cluster.hosts {
            cluster.agents.push(cluster.lab.agent(host, options.clone()).unwrap());
        }
        cluster.settle();
        let mut testbed = Self { cluster, before, foreign: Vec::new() };
        testbed.expect_foreign_routes();
        testbed
    }

    pub fn host(&self) -> &Host {
        &self.cluster.hosts[0]
    }

    /// Records the first host's other routes; they must exist at the end.
    pub fn expect_foreign_routes(&mut self) {
        self.foreign = self.host().foreign_routes().unwrap();
    }

    /// Starts datagrams between containers on two hosts.
    pub fn stream(&self, from: usize, to: usize) -> UdpStream {
        let (from, to) = (&self.cluster.hosts[from], &self.cluster.hosts[to]);
        let (near, far) = (from.container("s").unwrap(), to.container("s").unwrap());
        poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
        let stream = near.udp_stream(&far, 5 * MILLISECONDS).unwrap();
        stream.flows(20, 10 * SECONDS).unwrap();
        stream
    }

    /// All tables are just the desired ones, other routes are unchanged, and the log is no flood.
    pub fn is_converged(&self) {
        self.cluster.expect_full_mesh();
        poll("other routes are unchanged", 5 * SECONDS, || {
            let difference = sextant_tests::difference(&self.foreign, &self.host().foreign_routes().unwrap());
            if difference.is_empty() { Ok(()) } else { Err(difference) }
        });
        let log = self.cluster.agents[0].process.log();
        let warnings = log.lines().filter(|line| line.contains("\"level\":\"WARN\"")).count();
        assert!(warnings < FLOOD, "{warnings} warnings");
    }

    /// Stops the first host's agent, runs cleanup, and checks that the host is as before the agent.
    pub fn cleans_up(mut self) {
        self.is_converged();
        let agent = self.cluster.agents.remove(0);
        agent.process.terminate(10 * SECONDS).unwrap();
        let output = self.cleanup(&[]);
        assert!(output.status.success(), "{output:?}");
        self.before[0].is_restored(self.host());
    }

    /// Runs `sextant-agent cleanup` on the first host.
    pub fn cleanup(&self, more: &[&str]) -> Output {
        let agent = bin("sextant-agent").unwrap().display().to_string();
        let state_dir = self.cluster.lab.state_dir(self.host()).display().to_string();
        let args = [&[agent.as_str(), "cleanup", "--state-dir", &state_dir], more].concat();
        self.host().run(&args).unwrap()
    }

    pub fn is_restored(&self) {
        self.before[0].is_restored(self.host());
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
