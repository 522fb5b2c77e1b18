//! The demo's cluster: owns its lab, and the steps that build it.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use sextant_proto::Prefix;

use super::{
    Options, Topology,
    access::Access,
    control_plane::DOWN_AFTER,
    docker,
    terminal::{Terminal, columns},
};
use crate::{
    Agent, AgentOptions, Container, Controller, Docker, Etcd, Host, Lab, RouteMonitor, SECONDS, StoreKind,
    lab::poll::try_poll,
};

/// The deadline of everything that the demo waits for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);
/// How many lines of a list of hosts or containers are shown.
const ROWS: usize = 8;

/// What the steps share.
#[derive(Debug)]
pub(super) struct Cluster {
    // Agents and controller end before their lab does.
    pub(super) agents: Vec<Agent>,
    pub(super) controllers: Vec<Controller>,
    pub(super) etcd: Option<Etcd>,
    /// The engines of the hosts, if they have any.
    pub(super) engines: Vec<Docker>,
    pub(super) hosts: Vec<Host>,
    pub(super) containers: Vec<Container>,
    pub(super) router: Option<Host>,
    containers_per_host: u8,
    pub(super) store: StoreKind,
    pub(super) topology: Topology,
    pub(super) access: Access,
    pub(super) lab: Lab,
    pub(super) terminal: Terminal,
}

impl Cluster {
    pub(super) fn new(lab: Lab, terminal: Terminal, options: &Options) -> anyhow::Result<Self> {
        let access = Access::new(&lab, &terminal, options)?;
        Ok(Self {
            agents: Vec::new(),
            controllers: Vec::new(),
            etcd: None,
            engines: Vec::new(),
            hosts: Vec::new(),
            containers: Vec::new(),
            router: None,
            containers_per_host: options.containers,
            store: options.store,
            topology: options.topology,
            access,
            lab,
            terminal,
        })
    }

    /// Builds the cluster; all nodes are ready then.
    pub(super) fn build(&mut self, hosts: u16) -> anyhow::Result<()> {
        self.make_hosts(hosts)?;
        self.start_control_plane()?;
        self.start_agents()?;
        self.make_containers()
    }

    /// Agents on all hosts; all routes are in all kernels then.
    pub(super) fn start_agents(&mut self) -> anyhow::Result<()> {
        self.terminal.step(
            "An agent on each host",
            "The agent claims a prefix, sets up the container bridge, and keeps the routes to its peers.",
        );
        (0..self.hosts.len()).try_for_each(|index| self.start_agent(index))?;
        self.wait_ready()?;
        self.sextant(&["wait"])
    }

    pub(super) fn make_hosts(&mut self, hosts: u16) -> anyhow::Result<()> {
        self.terminal.step(
            "Hosts on a switch",
            "Each host has an address in 2001:db8::/64 on eth0, and a default route to a router.\n\
             The router has no routes to the containers.",
        );
        let router = self.lab.router()?;
        for number in 1..=hosts {
            self.terminal.progress(&format!("{number} of {hosts} hosts"));
            self.add_host(&router)?;
        }
        self.terminal.clear_progress();
        let hosts = self.hosts.iter().map(|host| format!("{} {}", host.name(), host.address()));
        self.show_in_columns(hosts, 4);
        self.router = Some(router);
        Ok(())
    }

    fn add_host(&mut self, router: &Host) -> anyhow::Result<()> {
        let host = self.lab.hosts(1)?.remove(0);
        host.default_route_via(router.address())?;
        self.hosts.push(host);
        Ok(())
    }

    /// One more host; its agent is not started yet.
    pub(super) fn add_late_host(&mut self) -> anyhow::Result<usize> {
        let router = self.router.clone().context("there is no router")?;
        self.add_host(&router)?;
        Ok(self.hosts.len() - 1)
    }

    /// Starts an agent, and shows the command of the first one.
    pub(super) fn start_agent(&mut self, index: usize) -> anyhow::Result<()> {
        let host = &self.hosts[index];
        let bridge = match self.engines.is_empty() {
            true if self.topology == Topology::NdpProxy => {
                "--bridge docker0 --bridge-create --topology ndp-proxy"
            }
            true => "--bridge docker0 --bridge-create",
            false => "--docker-mode network",
        };
        let urls = (1..).take(self.controllers.len()).map(|number| self.access.url(number));
        let command = format!(
            "sextant-agent --controller {} --uplink eth0 {bridge} {}",
            urls.collect::<Vec<_>>().join(","),
            self.access.shown_for_agents()
        );
        match index {
            0 => self.terminal.command(host.name(), &command),
            1 if self.agents.len() == 1 => self.terminal.text("and the same on the other hosts"),
            _ => {}
        }
        let agent = self.lab.agent(host, self.agent_options(index))?;
        if index < self.agents.len() {
            self.agents[index] = agent;
        } else {
            self.agents.push(agent);
        }
        Ok(())
    }

    fn agent_options(&self, index: usize) -> AgentOptions {
        let controllers = (1..).take(self.controllers.len()).collect();
        let mut args = self.engines.get(index).map(docker::agent_args).unwrap_or_default();
        if self.topology == Topology::NdpProxy {
            args.extend(["--topology", "ndp-proxy"].map(str::to_owned));
        }
        args.extend(self.access.agent_args(&self.lab));
        AgentOptions { controllers, args, over_tls: self.access.is_tls(), ..AgentOptions::default() }
    }

    /// Waits until all nodes are ready and none is down.
    pub(super) fn wait_ready(&self) -> anyhow::Result<()> {
        let all = self.hosts.len();
        let ready = try_poll(TIMEOUT, || {
            let nodes = self.nodes()?;
            let is_ready = |node: &&Value| node["state"] == "ready" && node["down"] == false;
            let ready = nodes.iter().filter(is_ready).count();
            self.terminal.progress(&format!("{ready} of {all} nodes are ready"));
            ensure!(ready == all, "{ready} of {all} nodes are ready after {TIMEOUT:?}: {nodes:?}");
            Ok(())
        });
        self.terminal.clear_progress();
        ready
    }

    fn make_containers(&mut self) -> anyhow::Result<()> {
        self.terminal.step(
            "Containers",
            "Each is a network namespace with a link to its host's bridge, as in Docker.",
        );
        (0..self.hosts.len()).try_for_each(|index| self.add_containers(index))?;
        let containers = self.containers.iter().map(|it| format!("{} {}", it.name(), it.address()));
        self.show_in_columns(containers, usize::from(self.containers_per_host).min(3));
        Ok(())
    }

    fn show_in_columns(&self, names: impl Iterator<Item = String>, count: usize) {
        let names: Vec<_> = names.collect();
        let rows: Vec<_> = names.chunks(count).take(ROWS).map(<[_]>::to_vec).collect();
        self.terminal.text(&columns(&rows, |_| false));
        if names.len() > ROWS * count {
            self.terminal.text(&format!("and {} more", names.len() - ROWS * count));
        }
    }

    /// Adds the containers of one host, and waits until each reaches its bridge: a new port may lose its first packets.
    pub(super) fn add_containers(&mut self, index: usize) -> anyhow::Result<()> {
        let host = &self.hosts[index];
        self.terminal.progress(&format!("adding containers to {}", host.name()));
        let names = (0..self.containers_per_host).map(|number| char::from(b'a' + number).to_string());
        let new = names.map(|name| host.container(&name)).collect::<anyhow::Result<Vec<_>>>()?;
        let (gateway, _) = host.bridge_address()?;
        for container in &new {
            try_poll(TIMEOUT, || container.ping(gateway)?.replied())
                .with_context(|| format!("{} does not reach its bridge {gateway}", container.name()))?;
        }
        self.containers.extend(new);
        self.terminal.clear_progress();
        Ok(())
    }

    /// Runs `sextant`, which must succeed, and shows its output.
    pub(super) fn sextant(&self, args: &[&str]) -> anyhow::Result<()> {
        self.terminal.command("", &format!("sextant {}", args.join(" ")));
        self.terminal.text(&self.asked(args)?);
        Ok(())
    }

    /// The output of `sextant`, which must succeed.
    pub(super) fn asked(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(self.access.cli(&self.lab, args)?.succeeded()?.stdout)
    }

    /// The nodes, by `sextant -o json node list`.
    pub(super) fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let nodes: Value = serde_json::from_str(&self.asked(&["-o", "json", "node", "list"])?)?;
        nodes.as_array().cloned().with_context(|| format!("no list of nodes: {nodes}"))
    }

    /// The host prefix of a node.
    pub(super) fn prefix(&self, name: &str) -> anyhow::Result<Prefix> {
        let nodes = self.nodes()?;
        let node = nodes.iter().find(|node| node["name"] == name);
        let prefix = node.and_then(|node| node["prefix"].as_str());
        Ok(prefix.with_context(|| format!("node {name} has no prefix: {nodes:?}"))?.parse()?)
    }

    /// A container of a host.
    pub(super) fn container_of(&self, index: usize) -> anyhow::Result<&Container> {
        let start = format!("{}/", self.hosts[index].name());
        let found = self.containers.iter().find(|container| container.name().starts_with(&start));
        found.with_context(|| format!("no container of {start}"))
    }

    /// Starts a route monitor on each host but this one.
    pub(super) fn watch_peers(&self, host: usize) -> anyhow::Result<Vec<(&Host, RouteMonitor)>> {
        let peers = self.hosts.iter().enumerate().filter(|(index, _)| *index != host);
        peers.map(|(_, host)| Ok((host, RouteMonitor::start(host)?))).collect()
    }

    /// Waits until the controller reports a node as down.
    pub(super) fn wait_down(&self, name: &str) -> anyhow::Result<()> {
        let down = try_poll(TIMEOUT, || {
            self.terminal.progress(&format!("waiting until {name} has been silent for {DOWN_AFTER} s"));
            let nodes = self.nodes()?;
            let is_down = nodes.iter().any(|node| node["name"] == name && node["down"] == true);
            ensure!(is_down, "{name} is not reported as down after {TIMEOUT:?}: {nodes:?}");
            Ok(())
        });
        self.terminal.clear_progress();
        down
    }
}

/// The deadline for datagrams to pass.
pub(super) const STREAM_TIMEOUT: Duration = SECONDS.saturating_mul(10);
