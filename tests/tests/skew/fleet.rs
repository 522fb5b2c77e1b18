//! A cluster with daemons of two builds.

use sextant_tests::{
    AgentOptions, Build, Controller, ControllerOptions, Etcd, Lab, MILLISECONDS, RouteMonitor, SECONDS,
    UdpStream,
    cluster::{Cluster, GUIDE},
    poll,
};

/// The whole of it; with two controllers if it is on etcd.
pub struct Fleet {
    pub second: Option<Controller>,
    pub etcd: Option<Etcd>,
    pub cluster: Cluster,
}

impl Fleet {
    /// Hosts without agents, and one controller, on its embedded store.
    pub fn embedded(test: &str, hosts: u16, controller: Build) -> Self {
        let lab = Lab::new(test).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let cluster = Cluster { lab, hosts, agents: Vec::new(), controller: None, pool: GUIDE };
        let mut fleet = Self { second: None, etcd: None, cluster };
        fleet.start_first(controller);
        fleet.cluster.add_pool();
        fleet
    }

    /// Hosts without agents, and two controllers of these builds, on one etcd.
    pub fn on_etcd(test: &str, hosts: u16, controllers: [Build; 2]) -> Self {
        let lab = Lab::new(test).unwrap();
        let etcd = lab.etcd(1, &[]).unwrap();
        let hosts = lab.hosts(hosts).unwrap();
        let cluster = Cluster { lab, hosts, agents: Vec::new(), controller: None, pool: GUIDE };
        let mut fleet = Self { second: None, etcd: Some(etcd), cluster };
        fleet.start_first(controllers[0]);
        fleet.start_second(controllers[1]);
        fleet.cluster.add_pool();
        fleet
    }

    /// Starts controller 1, on the store that it had.
    pub fn start_first(&mut self, build: Build) {
        let options = self.options(1, build);
        self.cluster.start_controller(options);
    }

    /// Starts controller 2.
    pub fn start_second(&mut self, build: Build) {
        let controller = self.cluster.lab.controller(self.options(2, build)).unwrap();
        controller.wait_ready(30 * SECONDS).unwrap();
        self.second = Some(controller);
    }

    pub fn options(&self, number: u16, build: Build) -> ControllerOptions {
        let store = self.etcd.as_ref().map(Etcd::store);
        // Longer than an upgrade takes on a slow machine, so that nobody is asked whether a host is dead.
        let args = ["--down-after", "60"].map(str::to_owned).to_vec();
        ControllerOptions { number, build, store, args, ..ControllerOptions::default() }
    }

    /// Starts the agents of further hosts, one of each of these builds.
    pub fn start_agents(&mut self, builds: &[Build]) {
        for build in builds {
            self.start_agent(self.cluster.agents.len(), *build);
        }
    }

    /// Starts a host's agent, on the state directory that it had. Where there are two controllers, two hosts begin at the
    /// first, two at the second, and so on.
    pub fn start_agent(&mut self, index: usize, build: Build) {
        self.start_agent_with(index, build, &[]);
    }

    /// As [`Self::start_agent`], with more flags.
    pub fn start_agent_with(&mut self, index: usize, build: Build, args: &[&str]) {
        let controllers = match (&self.second, index % 4) {
            (None, _) => vec![1],
            (Some(_), 0 | 1) => vec![1, 2],
            (Some(_), _) => vec![2, 1],
        };
        let args = args.iter().map(ToString::to_string).collect();
        let options = AgentOptions { build, controllers, args, ..AgentOptions::default() };
        self.cluster.start_agent_with(index, options);
    }

    /// Kills each agent in turn, and starts one of this build in its place.
    pub fn replace_agents(&mut self, build: Build) {
        for index in 0..self.cluster.agents.len() {
            // Those before it have been replaced, and are the last.
            self.cluster.agents.remove(0);
            self.start_agent(index, build);
            self.settle_by(1);
        }
    }

    /// Waits until this controller says that all hosts with agents have announced themselves, and that all has arrived.
    pub fn settle_by(&self, controller: u16) {
        let agents = self.cluster.agents.len();
        let lab = &self.cluster.lab;
        let all = format!("all {agents} live agents");
        poll(&format!("{agents} nodes ready, by controller {controller}"), 60 * SECONDS, || {
            let out = lab.cli_of(controller, &["-o", "json", "node", "list"])?.succeeded()?.stdout;
            let nodes: Vec<serde_json::Value> = serde_json::from_str(&out)?;
            let ready = nodes.iter().filter(|node| node["state"] == "ready" && node["down"] == false);
            anyhow::ensure!(ready.count() == agents, "{nodes:?}");
            let waited = lab.cli_of(controller, &["wait", "--timeout", "20s"])?;
            anyhow::ensure!(waited.code == 0 && waited.stdout.contains(&all), "{waited:?}");
            Ok(())
        });
    }

    /// Each node's name, prefix and epoch.
    pub fn claims(&self) -> Vec<String> {
        let nodes = self.cluster.lab.cli_json(&["node", "list"]).unwrap();
        let claim =
            |node: &serde_json::Value| format!("{} {} {}", node["name"], node["prefix"], node["epoch"]);
        nodes.as_array().unwrap().iter().map(claim).collect()
    }
}

/// Traffic between two hosts, and a watch over the routes of all that have agents.
pub struct Watched {
    stream: UdpStream,
    monitors: Vec<RouteMonitor>,
}

impl Watched {
    pub fn begin(cluster: &Cluster) -> Self {
        let (from, to) = (cluster.hosts[0].container("q").unwrap(), cluster.hosts[1].container("q").unwrap());
        poll("the path between them", 10 * SECONDS, || from.ping(to.address())?.replied());
        // A new port's link-local route, and that of the bridge, come a moment after its carrier.
        for host in &cluster.hosts[..2] {
            poll("the container's port is ready", 10 * SECONDS, || {
                let routes = host.routes()?.join("\n");
                let settled = ["fe80::/64 dev ve1", "fe80::/64 dev docker0"];
                anyhow::ensure!(settled.iter().all(|route| routes.contains(route)), "{routes}");
                Ok(())
            });
        }
        let watched = cluster.hosts.iter().take(cluster.agents.len());
        let monitors = watched.map(|host| RouteMonitor::start(host).unwrap()).collect();
        Self { stream: from.udp_stream(&to, 20 * MILLISECONDS).unwrap(), monitors }
    }

    /// Not one route has changed, and not one datagram was lost.
    pub fn nothing_happened(self) {
        self.stream.flows(50, 20 * SECONDS).unwrap();
        self.monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
        self.stream.finish().unwrap().nothing_lost().unwrap();
    }
}
