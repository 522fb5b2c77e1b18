//! A cluster on a real etcd of three members, with two controllers.

use serde_json::Value;
use sextant_tests::{Agent, AgentOptions, Controller, ControllerOptions, Host, Lab, Process, SECONDS, poll};

/// An etcd cluster in the lab's switch namespace, a member on each of three addresses.
pub struct Etcd {
    members: Vec<Option<Process>>,
}

const MEMBERS: usize = 3;

impl Etcd {
    pub fn start(lab: &Lab) -> Self {
        let mut etcd = Self { members: (0..MEMBERS).map(|_| None).collect() };
        for member in 0..MEMBERS {
            lab.switch().ip(&format!("address replace {}/64 dev br0 nodad", address(member))).unwrap();
        }
        (0..MEMBERS).for_each(|member| etcd.start_member(lab, member));
        etcd
    }

    pub fn start_member(&mut self, lab: &Lab, member: usize) {
        let initial: Vec<_> = (0..MEMBERS).map(|it| format!("m{it}=http://[{}]:2380", address(it))).collect();
        let (client, peer) = (url(member), format!("http://[{}]:2380", address(member)));
        let data = lab.dir().join(format!("etcd-{member}")).display().to_string();
        let args = [
            "etcd",
            "--name",
            &format!("m{member}"),
            "--data-dir",
            &data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &initial.join(","),
            "--initial-cluster-state",
            "new",
        ]
        .map(str::to_owned);
        self.members[member] = Some(lab.switch().spawn(&format!("etcd-{member}"), &args).unwrap());
    }

    /// The process of a member.
    pub fn member(&self, member: usize) -> &Process {
        self.members[member].as_ref().unwrap()
    }

    pub fn kill(&self) {
        self.members.iter().flatten().for_each(|member| member.kill().unwrap());
    }

    /// Takes away every key.
    pub fn wipe(&self, lab: &Lab) {
        self.etcdctl(lab, &["del", "", "--prefix"]);
    }

    pub fn put(&self, lab: &Lab, key: &str, value: &str) {
        self.etcdctl(lab, &["put", key, value]);
    }

    /// Runs `etcdctl` at the first member; what it prints.
    pub fn etcdctl(&self, lab: &Lab, args: &[&str]) -> String {
        let url = url(0);
        let command = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", &url];
        lab.switch().check(&[&command, args].concat()).unwrap()
    }

    pub fn restart(&mut self, lab: &Lab) {
        (0..MEMBERS).for_each(|member| {
            self.members[member] = None;
            self.start_member(lab, member);
        });
    }
}

fn address(member: usize) -> String {
    format!("2001:db8::e:{}", member + 1)
}

fn url(member: usize) -> String {
    format!("http://[{}]:2379", address(member))
}

/// After how much silence an agent counts as gone, in these tests.
pub const DOWN_AFTER: &str = "2";

pub struct Cluster {
    pub agents: Vec<Agent>,
    pub controllers: Vec<Controller>,
    pub etcd: Etcd,
    pub hosts: Vec<Host>,
    pub lab: Lab,
}

impl Cluster {
    pub fn start(test: &str, hosts: u16) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = Etcd::start(&lab);
        let hosts = lab.hosts(hosts).unwrap();
        let mut cluster = Self { lab, etcd, hosts, controllers: Vec::new(), agents: Vec::new() };
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
        let store = (0..MEMBERS).map(url).collect::<Vec<_>>().join(",");
        let args = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
        let store = Some(format!("etcd:{store}"));
        let options = ControllerOptions { number, store, args, ..ControllerOptions::default() };
        self.controllers.push(self.lab.controller(options).unwrap());
    }

    /// Host 0 and 2 begin at controller 1, host 1 at controller 2; all know both.
    pub fn start_agent(&mut self, index: usize) {
        let controllers = if index.is_multiple_of(2) { vec![1, 2] } else { vec![2, 1] };
        let options = AgentOptions { controllers, ..AgentOptions::default() };
        self.agents.push(self.lab.agent(&self.hosts[index], options).unwrap());
    }

    pub fn sextant(&self, args: &[&str]) -> String {
        self.lab.cli(args).unwrap().succeeded().unwrap().stdout
    }

    pub fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let nodes = self.lab.cli_json(&["node", "list"])?;
        Ok(nodes.as_array().cloned().unwrap_or_default())
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
