//! A cluster fixture for tests. Failures panic, as in a test.
#![allow(clippy::unwrap_used)] // All of it runs in tests only.

use std::net::Ipv6Addr;

use crate::{
    Agent, AgentOptions, Container, Controller, ControllerOptions, Host, Lab, SECONDS, expect_text, poll,
};
use serde_json::Value;
use sextant_proto::Prefix;

/// The metric of the unreachable routes, as `ip` shows it.
pub const UNREACHABLE_METRIC: u32 = 4_000_000_000;

/// The arguments of `sextant pool add`.
#[derive(Debug, Clone, Copy)]
pub struct PoolArgs {
    /// Its prefix.
    pub prefix: &'static str,
    /// `--host-len`.
    pub host_len: &'static str,
    /// `--container-len`.
    pub container_len: &'static str,
}

/// The pool of Docker's guide: a /64 for each host.
pub const GUIDE: PoolArgs = PoolArgs { prefix: "2001:db8:8000::/40", host_len: "64", container_len: "80" };

/// A controller, a pool and hosts with agents.
pub struct Cluster {
    // Agents and controller end before their lab does.
    /// The agents, in the order of the hosts.
    pub agents: Vec<Agent>,
    /// The controller, unless a test has ended it.
    pub controller: Option<Controller>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The pool "main".
    pub pool: PoolArgs,
    /// The lab that contains all of it.
    pub lab: Lab,
}

impl Cluster {
    /// Starts a cluster with agents on all hosts, and waits until all routes are in all kernels.
    pub fn start(test: &str, hosts: u16, pool: PoolArgs) -> Self {
        let mut cluster = Self::without_agents(test, hosts, pool);
        for index in 0..cluster.hosts.len() {
            cluster.start_agent(index);
        }
        cluster.settle();
        cluster
    }

    /// Starts a cluster with a controller, the pool, and hosts without agents.
    pub fn without_agents(test: &str, hosts: u16, pool: PoolArgs) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let mut cluster = Self { lab, hosts, agents: Vec::new(), controller: None, pool };
        cluster.start_controller(ControllerOptions::default());
        cluster.add_pool();
        cluster
    }

    /// Adds the pool.
    pub fn add_pool(&self) {
        self.add_another_pool("main", self.pool);
    }

    /// Adds a pool of this name.
    pub fn add_another_pool(&self, name: &str, pool: PoolArgs) {
        let PoolArgs { prefix, host_len, container_len } = pool;
        let lengths = ["--host-len", host_len, "--container-len", container_len];
        self.sextant(&[&["pool", "add", name, prefix][..], &lengths].concat());
    }

    /// As [`Cluster::without_agents`], with a controller that takes an agent as down after one second of silence.
    pub fn with_short_down_after(test: &str, hosts: u16, pool: PoolArgs) -> Self {
        let mut cluster = Self::without_agents(test, hosts, pool);
        cluster.controller = None;
        let args = ["--down-after", "1"].map(str::to_owned).to_vec();
        cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
        cluster
    }

    /// Starts the controller, and waits until it is ready.
    pub fn start_controller(&mut self, options: ControllerOptions) {
        let controller = self.lab.controller(options).unwrap();
        controller.wait_ready(10 * SECONDS).unwrap();
        self.controller = Some(controller);
    }

    /// Starts the agent of host `index`, and appends it to the agents.
    pub fn start_agent(&mut self, index: usize) {
        self.start_agent_with(index, AgentOptions::default());
    }

    /// As [`Cluster::start_agent`], with these options.
    pub fn start_agent_with(&mut self, index: usize, options: AgentOptions) {
        self.agents.push(self.lab.agent(&self.hosts[index], options).unwrap());
    }

    /// Waits until all nodes are ready and all changes are in all kernels.
    pub fn settle(&self) {
        let names: Vec<_> = self.hosts.iter().take(self.agents.len()).map(Host::name).collect();
        poll("all nodes ready", 20 * SECONDS, || {
            let not_ready: Vec<_> = names.iter().filter(|name| self.node(name)["state"] != "ready").collect();
            if not_ready.is_empty() { Ok(()) } else { Err(format!("not ready: {not_ready:?}")) }
        });
        self.sextant(&["wait", "--timeout", "20s"]);
    }

    /// Runs `sextant`, which must succeed; returns its output.
    pub fn sextant(&self, args: &[&str]) -> String {
        self.lab.cli(args).unwrap().succeeded().unwrap().stdout
    }

    /// A node of `sextant node list -o json`; null if there is none.
    pub fn node(&self, name: &str) -> Value {
        let nodes = self.lab.cli_json(&["node", "list"]).unwrap();
        let found = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }

    /// A node's host prefix.
    pub fn prefix(&self, name: &str) -> Prefix {
        self.node(name)["prefix"].as_str().unwrap().parse().unwrap()
    }

    /// Starts two containers on each host.
    pub fn containers(&self) -> Vec<Container> {
        let two = |host: &Host| [host.container("a").unwrap(), host.container("b").unwrap()];
        self.hosts.iter().flat_map(two).collect()
    }

    /// The routes of protocol 66 that host `index` must have with these peers, as text.
    pub fn expected_routes(&self, index: usize, peers: &[usize]) -> Vec<String> {
        let own = self.prefix(self.hosts[index].name());
        let via = |peer: &usize| {
            let (prefix, hop) = (self.prefix(self.hosts[*peer].name()), self.hosts[*peer].address());
            (prefix, format!("{prefix} via {hop} dev eth0 proto 66 metric 512"))
        };
        let unreachable =
            |prefix: Prefix| (prefix, format!("unreachable {prefix} proto 66 metric {UNREACHABLE_METRIC}"));
        let mut routes: Vec<_> = peers.iter().filter(|peer| **peer != index).map(via).collect();
        routes.extend([unreachable(own), unreachable(self.pool.prefix.parse().unwrap())]);
        sorted(routes.into_iter().map(|(_, text)| text).collect())
    }

    /// Waits until host `index` has exactly the routes of protocol 66 that it must have with these peers.
    pub fn expect_routes(&self, index: usize, peers: &[usize]) {
        let expected = self.expected_routes(index, peers).join("\n");
        let host = &self.hosts[index];
        expect_text(&format!("routes of {}", host.name()), 10 * SECONDS, &expected, || {
            host.routes_of(66).map(|routes| sorted(routes).join("\n"))
        });
    }

    /// Waits until each host has exactly the routes to all other hosts.
    pub fn expect_full_mesh(&self) {
        let all: Vec<_> = (0..self.hosts.len()).collect();
        all.iter().for_each(|&index| self.expect_routes(index, &all));
    }
}

/// Sorts lines.
pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// An address in `prefix` that no container has.
pub fn unused_address(prefix: Prefix) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.addr().to_bits() + 0xdead)
}
