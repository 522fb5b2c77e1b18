//! A cluster over TLS: controllers on etcd, or one on the embedded store, hosts, and people.

use std::path::PathBuf;

use serde_json::Value;
use sextant_tests::{
    Agent, AgentOptions, CliOutput, Controller, ControllerOptions, Host, Lab, SECONDS, poll,
};

use crate::authority::{Authority, Files};

pub struct Bed {
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    pub hosts: Vec<Host>,
    pub authority: Authority,
    pub admin: Files,
    pub lab: Lab,
}

impl Bed {
    /// A controller, a pool, and hosts without agents.
    pub fn start(test: &str, hosts: u16) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let authority = Authority::new();
        let admin =
            authority.member(&lab.dir().join("tls-admin"), "spiffe://default/admin/ann", Some("admin"));
        let mut bed = Self { agents: Vec::new(), controllers: Vec::new(), hosts, authority, admin, lab };
        let files = bed.member("controller/a", None);
        let controller = bed
            .lab
            .controller(ControllerOptions { args: files.flags(), ..ControllerOptions::default() })
            .unwrap();
        controller.wait_ready(10 * SECONDS).unwrap();
        bed.controllers.push(controller);
        bed.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
        bed
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
        self.controllers[0].url().replace("http://", "https://")
    }

    /// Starts the agent of a host with these files.
    pub fn start_agent(&mut self, index: usize, files: &Files) {
        let agent = self.agent(index, files);
        self.agents.push(agent);
    }

    pub fn agent(&self, index: usize, files: &Files) -> Agent {
        let options = AgentOptions { args: files.flags(), over_tls: true, ..AgentOptions::default() };
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
