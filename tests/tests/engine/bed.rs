//! A cluster to torture, and what must be true of it afterwards.

use std::process::Output;

use sextant_tests::{
    AgentOptions, ControllerOptions, Host, MILLISECONDS, SECONDS, UdpStream, bin,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::before::Before;

/// More warnings than this are a flood.
const FLOOD: usize = 20;

pub struct Bed {
    pub cluster: Cluster,
    before: Vec<Before>,
    foreign: Vec<String>,
}

impl Bed {
    /// Hosts with agents, all announced, and what the hosts were like before.
    pub fn start(test: &str, hosts: u16) -> Self {
        Self::with_options(test, hosts, &AgentOptions::default())
    }

    pub fn with_options(test: &str, hosts: u16, options: &AgentOptions) -> Self {
        let mut cluster = Cluster::without_agents(test, hosts, GUIDE);
        // A new store only adds at first (DESIGN I6); here, what nobody knows of goes at once.
        cluster.controller = None;
        let args = ["--recovery-window", "0"].map(str::to_owned).to_vec();
        cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
        let before = cluster.hosts.iter().map(Before::of).collect();
        for host in &cluster.hosts {
            cluster.agents.push(cluster.lab.agent(host, options.clone()).unwrap());
        }
        cluster.settle();
        let mut bed = Self { cluster, before, foreign: Vec::new() };
        bed.foreign_stays();
        bed
    }

    pub fn host(&self) -> &Host {
        &self.cluster.hosts[0]
    }

    /// What is of others on the first host now must be there in the end.
    pub fn foreign_stays(&mut self) {
        self.foreign = self.host().foreign_routes().unwrap();
    }

    /// Datagrams between containers on two hosts.
    pub fn stream(&self, from: usize, to: usize) -> UdpStream {
        let (from, to) = (&self.cluster.hosts[from], &self.cluster.hosts[to]);
        let (near, far) = (from.container("s").unwrap(), to.container("s").unwrap());
        poll("the way between them", 10 * SECONDS, || near.ping(far.address())?.replied());
        let stream = near.udp_stream(&far, 5 * MILLISECONDS).unwrap();
        stream.flows(20, 10 * SECONDS).unwrap();
        stream
    }

    /// All tables are just the desired ones, others' routes are as they were, and the log is no flood.
    pub fn is_right(&self) {
        self.cluster.expect_full_mesh();
        poll("others' routes are as they were", 5 * SECONDS, || {
            let difference = sextant_tests::difference(&self.foreign, &self.host().foreign_routes().unwrap());
            if difference.is_empty() { Ok(()) } else { Err(difference) }
        });
        let log = self.cluster.agents[0].process.log();
        let warnings = log.lines().filter(|line| line.contains("\"level\":\"WARN\"")).count();
        assert!(warnings < FLOOD, "{warnings} warnings");
    }

    /// Stops the first host's agent and cleans up after it: the host is as before.
    pub fn ends_clean(mut self) {
        self.is_right();
        let agent = self.cluster.agents.remove(0);
        agent.process.terminate(10 * SECONDS).unwrap();
        let output = self.cleanup(&[]);
        assert!(output.status.success(), "{output:?}");
        self.before[0].is_again(self.host());
    }

    /// Runs `sextant-agent cleanup` on the first host.
    pub fn cleanup(&self, more: &[&str]) -> Output {
        let agent = bin("sextant-agent").unwrap().display().to_string();
        let state_dir = self.cluster.lab.state_dir(self.host()).display().to_string();
        let args = [&[agent.as_str(), "cleanup", "--state-dir", &state_dir], more].concat();
        self.host().run(&args).unwrap()
    }

    pub fn is_as_before(&self) {
        self.before[0].is_again(self.host());
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
