//! A cluster on a real etcd, whose hosts begin as each test says.

use serde_json::Value;
use sextant_tests::{Agent, AgentOptions, Controller, ControllerOptions, Etcd, Host, Lab, SECONDS, poll};
use std::time::Duration;

/// Longer than anything should take.
pub const LONG: Duration = Duration::from_secs(40);

pub struct Cluster {
    // Daemons end before their lab does.
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    pub etcd: Etcd,
    pub hosts: Vec<Host>,
    pub lab: Lab,
}

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub members: usize,
    pub controllers: u16,
    pub hosts: u16,
}

impl Cluster {
    /// With a pool of /64; agents are not started yet. An agent counts as lost after a second of silence, unless `args` have
    /// another `--down-after`.
    pub fn start(test: &str, sizes: Sizes, pool: &str, args: &[&str]) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = lab.etcd(sizes.members, &["--heartbeat-interval=50", "--election-timeout=500"]).unwrap();
        let hosts = lab.hosts(sizes.hosts).unwrap();
        let mut cluster = Self { agents: Vec::new(), controllers: Vec::new(), etcd, hosts, lab };
        (1..=sizes.controllers).for_each(|number| cluster.start_controller(number, args));
        cluster.sextant(&["pool", "add", "main", pool, "--host-len", "64", "--container-len", "80"]);
        cluster
    }

    pub fn start_controller(&mut self, number: u16, args: &[&str]) {
        let down_after: &[&str] = if args.contains(&"--down-after") { &[] } else { &["--down-after", "1"] };
        let args = down_after.iter().chain(args).map(|&arg| arg.to_owned()).collect();
        let options = ControllerOptions {
            number,
            store: Some(self.etcd.store()),
            args,
            ..ControllerOptions::default()
        };
        let controller = self.lab.controller(options).unwrap();
        controller.wait_ready(LONG).unwrap();
        self.controllers.push(controller);
    }

    /// Ends all controllers, and starts one with these arguments.
    pub fn restart_controller(&mut self, args: &[&str]) {
        self.controllers.clear();
        self.start_controller(1, args);
    }

    /// The agent of host `index`, which knows these controllers.
    pub fn start_agent(&mut self, index: usize, controllers: &[u16]) -> usize {
        let options = AgentOptions { controllers: controllers.to_vec(), ..AgentOptions::default() };
        self.start_agent_with(index, options)
    }

    pub fn start_agent_with(&mut self, index: usize, options: AgentOptions) -> usize {
        self.agents.push(self.lab.agent(&self.hosts[index], options).unwrap());
        self.agents.len() - 1
    }

    pub fn sextant(&self, args: &[&str]) -> String {
        self.lab.cli(args).unwrap().succeeded().unwrap().stdout
    }

    /// Runs `sextant`, which must end with this exit code; what it says.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.lab.cli(args).unwrap();
        assert_eq!(output.code, code, "{args:?}: {output:?}");
        output.stderr
    }

    pub fn node(&self, name: &str) -> Value {
        let nodes = self.lab.cli_json(&["node", "list"]).unwrap();
        let found = nodes.as_array().into_iter().flatten().find(|node| node["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }

    pub fn wait(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        poll(&format!("{name} {what}"), LONG, || {
            let node = self.node(name);
            if is(&node) { Ok(node) } else { Err(format!("{node}")) }
        })
    }

    pub fn wait_ready(&self, name: &str) -> Value {
        self.wait(name, "is ready", |node| node["state"] == "ready" && node["connected"] == true)
    }

    pub fn wait_down(&self, name: &str) {
        self.wait(name, "is down", |node| node["connected"] == false);
    }

    /// Waits until there is no such node.
    pub fn wait_gone(&self, name: &str) {
        self.wait(name, "is gone", Value::is_null);
    }

    /// Waits until all kernels have everything.
    pub fn settle(&self) {
        self.sextant(&["wait", "--timeout", "30s"]);
    }

    /// Waits until host `index` has just this line among its routes of protocol 66, or has not.
    pub fn wait_route(&self, index: usize, line: &str, there: bool) {
        let host = &self.hosts[index];
        poll(&format!("{line} on {}: {there}", host.name()), 20 * SECONDS, || {
            let routes = host.routes_of(66)?;
            anyhow::ensure!(routes.iter().any(|it| it == line) == there, "{}", routes.join("\n"));
            anyhow::Ok(())
        });
    }
}
