//! A cluster with an authority of its own, by the commands of docs/identity.md.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sextant_tests::{
    Agent, AgentOptions, CliOutput, Controller, ControllerOptions, Host, Joined, Lab, OwnAuthority, SECONDS,
    poll, tls_url,
};

pub struct Own {
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    pub hosts: Vec<Host>,
    pub authority: OwnAuthority,
    pub lab: Lab,
    /// The number of the controller that is asked.
    pub front: u16,
    lifetime: String,
}

impl Own {
    /// The authority, a controller, a pool, and hosts without agents. Certificates live for this many seconds.
    pub fn start(test: &str, hosts: u16, lifetime: u32) -> Self {
        let mut own = Self::without_controller(test, hosts, lifetime);
        own.start_controller(1, None);
        own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
        own
    }

    /// The same with two hosts, which have joined and are ready.
    pub fn joined(test: &str, lifetime: u32) -> Self {
        let mut own = Self::start(test, 2, lifetime);
        for index in [0, 1] {
            own.join_anew(index);
            own.start_agent(index, &[]);
        }
        own.wait_ready("h1");
        own.wait_ready("h2");
        own.sextant(&["wait", "--timeout", "20s"]);
        own
    }

    pub fn without_controller(test: &str, hosts: u16, lifetime: u32) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let authority = OwnAuthority::make(&lab).unwrap();
        let (agents, controllers, front, lifetime) = (Vec::new(), Vec::new(), 1, lifetime.to_string());
        Self { agents, controllers, hosts, authority, lab, front, lifetime }
    }

    /// The directory of the authority of the controller with this number.
    pub fn pki_dir(&self, number: u16) -> PathBuf {
        self.authority.dir_of(number)
    }

    /// Runs `sextant-controller pki`.
    pub fn pki(&self, args: &[&str]) -> String {
        self.authority.run(args).unwrap()
    }

    pub fn pki_in(&self, dir: &Path, args: &[&str]) -> String {
        self.authority.run_in(dir, args).unwrap()
    }

    pub fn start_controller(&mut self, number: u16, store: Option<String>) {
        self.start_controller_with(number, store, Vec::new());
    }

    /// The same with these arguments too.
    pub fn start_controller_with(&mut self, number: u16, store: Option<String>, more: Vec<String>) {
        let dir = self.pki_dir(number).display().to_string();
        let args = ["--pki", &dir, "--certificate-lifetime", &self.lifetime].map(str::to_owned);
        let args = [args.to_vec(), more].concat();
        let options = ControllerOptions { number, store, args, ..ControllerOptions::default() };
        let controller = self.lab.controller(options).unwrap();
        controller.wait_ready(10 * SECONDS).unwrap();
        self.controllers.push(controller);
    }

    /// The URL of the controller with this number.
    pub fn url(number: u16) -> String {
        tls_url(number)
    }

    pub fn cli(&self, args: &[&str]) -> CliOutput {
        self.authority.cli(&self.lab, self.front, args).unwrap()
    }

    /// Runs `sextant` as ann, an admin; it must succeed.
    pub fn sextant(&self, args: &[&str]) -> String {
        self.cli(args).succeeded().unwrap().stdout
    }

    /// A new token.
    pub fn token(&self, args: &[&str]) -> String {
        self.sextant(&[&["token", "create"], args].concat())
    }

    /// Runs `sextant-agent join` on a host with this line as its standard input.
    pub fn join(&self, index: usize, line: &str) -> Joined {
        self.join_as(index, self.hosts[index].name(), line, 1)
    }

    pub fn join_as(&self, index: usize, node: &str, line: &str, controller: u16) -> Joined {
        self.lab.join(&self.hosts[index], node, line, controller).unwrap()
    }

    /// A host joins with a new token.
    pub fn join_anew(&self, index: usize) {
        self.authority.join_anew(&self.lab, self.front, &self.hosts[index]).unwrap();
    }

    /// Starts the agent of a host, which has joined.
    pub fn start_agent(&mut self, index: usize, args: &[&str]) {
        let args = args.iter().map(|&it| it.to_owned()).collect();
        let options = AgentOptions { args, over_tls: true, ..AgentOptions::default() };
        let agent = self.lab.agent(&self.hosts[index], options).unwrap();
        self.agents.push(agent);
    }

    /// A node, by `sextant node list`.
    pub fn node(&self, name: &str) -> Value {
        let nodes: Value = serde_json::from_str(&self.sextant(&["-o", "json", "node", "list"])).unwrap();
        nodes.as_array().into_iter().flatten().find(|node| node["name"] == name).cloned().unwrap_or_default()
    }

    pub fn wait_ready(&self, name: &str) -> Value {
        poll(&format!("{name} is ready"), 40 * SECONDS, || {
            let node = self.node(name);
            if node["state"] == "ready" && node["connected"] == true { Ok(node) } else { Err(node) }
        })
    }

    /// How often an agent has connected.
    pub fn connections(&self, index: usize) -> usize {
        self.agents[index].process.log().matches("\"message\":\"connected to controller\"").count()
    }

    /// The certificate of a host's agent.
    pub fn certificate(&self, index: usize) -> sextant_identity::Holder {
        let path = self.lab.state_dir(&self.hosts[index]).join("tls/node.pem");
        let chain = sextant_identity::files::read_certificates(&path).unwrap();
        sextant_identity::certificate::holder(&chain[0]).unwrap()
    }
}
