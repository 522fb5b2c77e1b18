//! Hosts with an engine each, whose networks the agents keep.

use sextant_tests::{
    Agent, AgentOptions, Docker, Host, SECONDS,
    cluster::{Cluster, PoolArgs},
    poll,
};

/// A pool whose host prefixes leave room beside the container prefix.
pub const POOL: PoolArgs = PoolArgs { prefix: "2001:db8:8000::/40", host_len: "64", container_len: "80" };

/// Options of a network of one's own whose containers are reached: engines from 28 on drop packets to others, and replace the source
/// of packets from them. Earlier ones ignore the first option.
pub const REACHED: [&str; 4] = [
    "-o",
    "com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected",
    "-o",
    "com.docker.network.bridge.enable_ip_masquerade=false",
];

/// Arguments of an agent that keeps a network.
pub const NETWORK: [&str; 4] = ["--docker-mode", "network", "--bridge", "sextant0"];

/// A word of `sextant status` on each route of another process that takes packets from ours.
pub const CONFLICT: &str = "theirs wins";

/// A cluster whose hosts have engines.
pub struct Bed {
    pub engines: Vec<Docker>,
    pub cluster: Cluster,
}

impl Bed {
    /// Starts engines and agents on so many hosts.
    pub fn start(test: &str, hosts: u16, more: &[&str]) -> Self {
        Self::start_with(test, hosts, more, &[])
    }

    /// As [`Self::start`], with arguments of the engines.
    pub fn start_with(test: &str, hosts: u16, more: &[&str], engine: &[&str]) -> Self {
        let bed = Self::start_mode(test, hosts, &[&NETWORK, more].concat(), engine);
        (0..bed.engines.len()).for_each(|index| bed.has_network(index));
        bed
    }

    /// Starts engines that the agents only watch.
    pub fn watched(test: &str, hosts: u16) -> Self {
        Self::start_mode(test, hosts, &["--docker-mode", "none"], &[])
    }

    /// Starts engines and agents with these arguments.
    pub fn start_mode(test: &str, hosts: u16, agent: &[&str], engine: &[&str]) -> Self {
        Self::start_each(test, agent, &vec![engine; hosts.into()])
    }

    /// Starts a host for each engine, which has these arguments.
    pub fn start_each(test: &str, agent: &[&str], engines: &[&[&str]]) -> Self {
        let hosts = u16::try_from(engines.len()).unwrap();
        let mut cluster = Cluster::without_agents(test, hosts, POOL);
        let start = |(host, args): (&Host, &&[&str])| Docker::start(host, args).unwrap();
        let engines: Vec<_> = cluster.hosts.iter().zip(engines).map(start).collect();
        for (index, engine) in engines.iter().enumerate() {
            cluster.start_agent_with(index, options(engine, agent));
        }
        cluster.settle();
        Self { engines, cluster }
    }

    /// Starts engines that get addresses from the agents' IPAM driver.
    pub fn ipam(test: &str, hosts: u16) -> Self {
        Self::ipam_with(test, hosts, &[], &[])
    }

    /// As [`Self::ipam`], with arguments of the agents and engines.
    pub fn ipam_with(test: &str, hosts: u16, agent: &[&str], engine: &[&str]) -> Self {
        let bed = Self::start_mode(test, hosts, &[&["--docker-mode", "ipam"], agent].concat(), engine);
        bed.engines.iter().for_each(|engine| engine.has_driver().unwrap());
        bed
    }

    /// Makes a network of the IPAM driver.
    pub fn create_by_driver(&self, index: usize, name: &str, more: &[&str]) -> anyhow::Result<String> {
        let create = ["network", "create", "--ipv6", "--ipam-driver", "sextant"];
        self.engines[index].run(&[&create, more, &[name]].concat())
    }

    /// The subnets of a network of a host's engine, sorted.
    pub fn subnets(&self, index: usize, name: &str) -> Vec<String> {
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let found = self.engines[index].run(&["network", "inspect", "-f", format, name]).unwrap();
        let mut subnets: Vec<_> = found.split_whitespace().map(str::to_owned).collect();
        subnets.sort();
        subnets
    }

    /// Starts the agent of a host again, which has ended.
    pub fn start_ipam_agent(&mut self, index: usize, activated: bool) {
        let agent = self.ipam_agent(index, activated);
        self.cluster.agents.insert(index, agent);
    }

    /// Starts an agent with the IPAM driver; `activated`: by the first request.
    pub fn ipam_agent(&self, index: usize, activated: bool) -> Agent {
        let engine = &self.engines[index];
        let mut options = options(engine, &["--docker-mode", "ipam"]);
        options.activated_by = activated.then(|| engine.ipam_socket());
        self.cluster.lab.agent(&self.cluster.hosts[index], options).unwrap()
    }

    /// All container prefixes of a host's claim.
    pub fn container_prefixes(&self, index: usize) -> Vec<String> {
        let node = self.cluster.node(self.cluster.hosts[index].name());
        let prefixes = node["claims"][0]["container_prefixes"].as_array().unwrap();
        prefixes.iter().map(|prefix| prefix.as_str().unwrap().to_owned()).collect()
    }

    /// Starts the agents again with other arguments, and waits until all is settled.
    pub fn restart_agents(&mut self, args: &[&str]) {
        self.cluster.agents.clear();
        for (index, engine) in self.engines.iter().enumerate() {
            self.cluster.start_agent_with(index, options(engine, args));
        }
        self.cluster.settle();
    }

    /// The container prefix of a host.
    pub fn container_prefix(&self, index: usize) -> String {
        let node = self.cluster.node(self.cluster.hosts[index].name());
        node["claims"][0]["container_prefixes"][0].as_str().unwrap().to_owned()
    }

    /// The same by the network of the host's engine, with no controller.
    pub fn own_prefix(&self, index: usize) -> String {
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let subnets = self.engines[index].run(&["network", "inspect", "-f", format, "sextant"]).unwrap();
        subnets.split(' ').find(|subnet| subnet.contains("::")).unwrap().to_owned()
    }

    /// Waits until the engine of a host has the network with the host's container prefix.
    pub fn has_network(&self, index: usize) {
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        // An agent that was stopped for a while during a look pauses for three seconds after it.
        poll("the network has the container prefix", 10 * SECONDS, || {
            let subnets = self.engines[index].run(&["network", "inspect", "-f", format, "sextant"])?;
            let wanted = self.container_prefix(index);
            anyhow::ensure!(subnets.split(' ').any(|subnet| subnet == wanted), "{subnets}, not {wanted}");
            Ok(())
        });
    }

    /// Waits until `sextant status` has these words.
    pub fn status_has(&self, words: &[&str]) {
        poll(&format!("status has {words:?}"), 10 * SECONDS, || {
            let status = self.cluster.sextant(&["status"]);
            anyhow::ensure!(words.iter().all(|word| status.contains(word)), "{status}");
            Ok(())
        });
    }

    /// Waits until the engine's routes on a bridge are those of these prefixes.
    pub fn engine_routes_are(&self, index: usize, bridge: &str, prefixes: &[&str]) {
        poll(&format!("the routes of proto boot on {bridge} are {prefixes:?}"), 10 * SECONDS, || {
            let shown = self.cluster.hosts[index].ip(&format!("-6 route show dev {bridge} proto boot"))?;
            let routes: Vec<_> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
            anyhow::ensure!(routes.iter().all(|route| prefixes.contains(route)), "{shown}");
            Ok(())
        });
    }

    /// Waits until `sextant status` does not speak of Docker.
    pub fn status_is_silent(&self) {
        poll("status speaks neither of Docker nor of conflicts", 10 * SECONDS, || {
            let status = self.cluster.sextant(&["status"]);
            anyhow::ensure!(!status.contains("docker") && !status.contains(CONFLICT), "{status}");
            Ok(())
        });
    }

    /// Sends echo requests from a container to an address, and expects the answers.
    pub fn pings(&self, index: usize, container: &str, to: &str) {
        poll(&format!("{container} reaches {to}"), 10 * SECONDS, || {
            self.engines[index].run(&["exec", container, "ping", "-c", "1", "-W", "1", to])
        });
    }
}

/// The options of an agent beside this engine.
pub fn options(engine: &Docker, more: &[&str]) -> AgentOptions {
    let socket = engine.socket().display().to_string();
    let driver = engine.ipam_socket().display().to_string();
    let args = ["--docker-socket", &socket, "--docker-ipam-socket", &driver];
    let default = AgentOptions::default();
    let no_bridge = more.contains(&"ipam");
    AgentOptions {
        args: args.iter().chain(more).map(|arg| (*arg).to_owned()).collect(),
        bridge: if no_bridge { String::new() } else { default.bridge },
        bridge_create: !no_bridge,
        ..AgentOptions::default()
    }
}
