//! A cluster over TLS: controllers on etcd, or one on the embedded store, hosts, and people.

use std::path::PathBuf;

use serde_json::Value;
use sextant_tests::{
    Agent, AgentOptions, CliOutput, Controller, ControllerOptions, Etcd, Host, Lab, SECONDS, poll,
};

use crate::authority::{Authority, Files};

pub struct Bed {
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    /// The store of several controllers.
    pub etcd: Option<Etcd>,
    pub hosts: Vec<Host>,
    pub authority: Authority,
    pub admin: Files,
    pub lab: Lab,
}

impl Bed {
    /// A controller, a pool, and hosts without agents.
    pub fn start(test: &str, hosts: u16) -> Self {
        Self::start_with(test, hosts, &[])
    }

    /// As [`Bed::start`]; the controller has these arguments too.
    pub fn start_with(test: &str, hosts: u16, args: &[&str]) -> Self {
        let mut bed = Self::empty(test, hosts);
        let args = [bed.member("controller/a", None).flags(), args.iter().map(|it| (*it).into()).collect()];
        bed.start_controller(1, args.concat());
        bed.add_pool();
        bed
    }

    /// As [`Bed::start`], with two controllers on etcd.
    pub fn with_two_controllers(test: &str, hosts: u16) -> Self {
        let mut bed = Self::empty(test, hosts);
        bed.etcd = Some(bed.lab.etcd(1, &[]).unwrap());
        for (number, name) in [(1, "controller/a"), (2, "controller/b")] {
            let args = bed.member(name, None).flags();
            bed.start_controller(number, args);
        }
        bed.add_pool();
        bed
    }

    /// Hosts without agents, and no controller.
    pub fn empty(test: &str, hosts: u16) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let authority = Authority::new();
        let admin =
            authority.member(&lab.dir().join("tls-admin"), "spiffe://default/admin/ann", Some("admin"));
        Self { agents: Vec::new(), controllers: Vec::new(), etcd: None, hosts, authority, admin, lab }
    }

    /// Starts the controller with this number in the place of an earlier one.
    pub fn start_controller(&mut self, number: u16, args: Vec<String>) {
        let place = usize::from(number) - 1;
        if let Some(controller) = self.controllers.get(place) {
            controller.process.terminate(10 * SECONDS).unwrap();
        }
        let store = self.etcd.as_ref().map(Etcd::store);
        let options = ControllerOptions { number, store, args, ..ControllerOptions::default() };
        let controller = self.lab.controller(options).unwrap();
        controller.wait_ready(20 * SECONDS).unwrap();
        match self.controllers.get_mut(place) {
            Some(before) => *before = controller,
            None => self.controllers.push(controller),
        }
    }

    pub fn add_pool(&self) {
        self.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    }

    /// The files of a member, such as `node/h1`.
    pub fn member(&self, name: &str, role: Option<&str>) -> Files {
        self.authority.member(&self.dir(name), &format!("spiffe://default/{name}"), role)
    }

    /// Where the files of a member are.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.lab.dir().join(format!("tls-{}", name.replace('/', "-")))
    }

    /// The URL of the controller.
    pub fn url(&self) -> String {
        self.controllers[0].tls_url()
    }

    /// Starts the agent of a host with these files.
    pub fn start_agent(&mut self, index: usize, files: &Files) {
        let agent = self.agent(index, files);
        self.agents.push(agent);
    }

    pub fn agent(&self, index: usize, files: &Files) -> Agent {
        self.agent_of(index, files, &[1])
    }

    /// The agent of a host with these files, which knows the controllers with these numbers.
    pub fn agent_of(&self, index: usize, files: &Files, controllers: &[u16]) -> Agent {
        let controllers = controllers.to_vec();
        let options =
            AgentOptions { args: files.flags(), over_tls: true, controllers, ..AgentOptions::default() };
        self.lab.agent(&self.hosts[index], options).unwrap()
    }

    /// Runs `sextant` with these files.
    pub fn cli(&self, files: &Files, args: &[&str]) -> CliOutput {
        let flags = files.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.lab.cli_at(&self.url(), &[&flags[..], args].concat()).unwrap()
    }

    /// Runs `sextant` as an admin; it must succeed.
    pub fn sextant(&self, args: &[&str]) -> String {
        self.cli(&self.admin, args).succeeded().unwrap().stdout
    }

    /// A node, by `sextant node list`.
    pub fn node(&self, name: &str) -> Value {
        let nodes: Value = serde_json::from_str(&self.sextant(&["-o", "json", "node", "list"])).unwrap();
        nodes.as_array().into_iter().flatten().find(|node| node["name"] == name).cloned().unwrap_or_default()
    }

    pub fn wait_ready(&self, name: &str) -> Value {
        poll(&format!("{name} is ready"), 30 * SECONDS, || {
            let node = self.node(name);
            if node["state"] == "ready" && node["connected"] == true { Ok(node) } else { Err(node) }
        })
    }
}
