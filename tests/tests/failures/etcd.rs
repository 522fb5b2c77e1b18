//! A cluster on a real etcd of three members, with two controllers.

use serde_json::Value;
use sextant_tests::{Agent, AgentOptions, Controller, ControllerOptions, Etcd, Host, Lab, SECONDS, poll};

/// After how much silence an agent counts as down, in these tests.
pub const DOWN_AFTER: &str = "2";
const MEMBERS: usize = 3;

/// How an etcd is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Flags of its members.
    pub etcd: &'static [&'static str],
    /// Whether the controllers have to log in.
    pub login: bool,
    /// More flags of the controllers.
    pub controllers: &'static [&'static str],
}

pub struct Cluster {
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    pub etcd: Etcd,
    pub hosts: Vec<Host>,
    pub lab: Lab,
    setup: Setup,
}

impl Cluster {
    pub fn start(test: &str, hosts: u16) -> Self {
        Self::start_with(test, hosts, Setup::default())
    }

    pub fn start_with(test: &str, hosts: u16, setup: Setup) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = lab.etcd(MEMBERS, setup.etcd).unwrap();
        if setup.login {
            turn_on_authentication(&lab, &etcd);
        }
        let hosts = lab.hosts(hosts).unwrap();
        let mut cluster = Self { lab, etcd, hosts, controllers: Vec::new(), agents: Vec::new(), setup };
        (1..=2).for_each(|number| cluster.start_controller(number));
        for controller in &cluster.controllers {
            controller.wait_ready(30 * SECONDS).unwrap();
        }
        cluster.sextant(&[
            "pool",
            "add",
            "main",
            "2001:db8:8000::/40",
            "--host-len",
            "64",
            "--container-len",
            "80",
        ]);
        (0..cluster.hosts.len()).for_each(|index| cluster.start_agent(index));
        cluster.settle();
        cluster
    }

    pub fn start_controller(&mut self, number: u16) {
        self.start_controller_in(number, &[]);
    }

    /// With more environment variables.
    pub fn start_controller_in(&mut self, number: u16, environment: &[(String, String)]) {
        let mut args = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
        if self.setup.login {
            let file = password_file(&self.lab);
            args.extend(["--etcd-user", "sextant", "--etcd-password-file", &file].map(str::to_owned));
        }
        args.extend(self.setup.controllers.iter().map(|&arg| arg.to_owned()));
        let (store, environment) = (Some(self.etcd.store()), environment.to_vec());
        let options = ControllerOptions { number, store, args, environment, ..ControllerOptions::default() };
        self.controllers.push(self.lab.controller(options).unwrap());
    }

    /// Host 0 and 2 begin at controller 1, host 1 at controller 2; all know both.
    pub fn start_agent(&mut self, index: usize) {
        self.start_agent_with(index, AgentOptions::default());
    }

    /// With these options but for the controllers.
    pub fn start_agent_with(&mut self, index: usize, options: AgentOptions) {
        let controllers = if index.is_multiple_of(2) { vec![1, 2] } else { vec![2, 1] };
        let options = AgentOptions { controllers, ..options };
        self.agents.push(self.lab.agent(&self.hosts[index], options).unwrap());
    }

    pub fn sextant(&self, args: &[&str]) -> String {
        self.lab.cli(args).unwrap().succeeded().unwrap().stdout
    }

    pub fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let nodes = self.lab.cli_json(&["node", "list"])?;
        Ok(nodes.as_array().cloned().unwrap_or_default())
    }

    /// Who holds what, in the order of names.
    pub fn prefixes(&self) -> Vec<(String, String)> {
        let nodes = self.nodes().unwrap();
        let mut held: Vec<_> =
            nodes.iter().map(|node| (node["name"].to_string(), node["prefix"].to_string())).collect();
        held.sort();
        held
    }

    /// All hosts announced and connected, and everything in all kernels.
    pub fn settle(&self) {
        poll("all nodes ready and connected", 60 * SECONDS, || {
            let nodes = self.nodes()?;
            let well = |node: &&Value| {
                node["state"] == "ready" && node["down"] == false && !node["applied"].is_null()
            };
            let ready = nodes.iter().filter(well).count();
            anyhow::ensure!(ready == self.hosts.len(), "{ready} of {}: {nodes:?}", self.hosts.len());
            anyhow::Ok(())
        });
        self.sextant(&["wait", "--timeout", "30s"]);
    }

    /// All hosts have a route to each other one's prefix.
    pub fn expect_full_mesh(&self) {
        let nodes = self.nodes().unwrap();
        let prefix_of = |host: &Host| {
            let node = nodes.iter().find(|node| node["name"] == host.name());
            node.and_then(|node| node["prefix"].as_str()).unwrap().to_owned()
        };
        for host in &self.hosts {
            for peer in self.hosts.iter().filter(|peer| peer.name() != host.name()) {
                let wanted =
                    format!("{} via {} dev eth0 proto 66 metric 512", prefix_of(peer), peer.address());
                poll(&format!("{wanted} on {}", host.name()), 10 * SECONDS, || {
                    let routes = host.routes_of(66)?;
                    anyhow::ensure!(routes.contains(&wanted), "{}", routes.join("\n"));
                    anyhow::Ok(())
                });
            }
        }
    }
}

fn password_file(lab: &Lab) -> String {
    lab.dir().join("password").display().to_string()
}

/// For a user who may do what a controller has to, and no more.
fn turn_on_authentication(lab: &Lab, etcd: &Etcd) {
    std::fs::write(password_file(lab), "secret\n").unwrap();
    (0..MEMBERS).for_each(|member| etcd.wait_healthy(lab, member).unwrap());
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "user add sextant:secret",
        "role add sextant",
        "role grant-permission sextant readwrite --prefix=true /sextant/",
        "user grant-role sextant sextant",
        "auth enable",
    ] {
        etcd.etcdctl(lab, &command.split(' ').collect::<Vec<_>>()).unwrap();
    }
}
