//! The demo's cluster: owns its lab, and how it is built.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use sextant_proto::Prefix;

use super::{
    Options,
    show::{Show, columns},
};
use crate::{
    Agent, AgentOptions, Container, Controller, ControllerOptions, Etcd, Host, Lab, RouteMonitor, SECONDS,
    StoreKind,
    lab::{daemons::controller_url, poll::try_poll},
};

/// How long anything may take that has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The pool: each host a /64 of it, the containers on a /80.
const POOL: [&str; 8] =
    ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
/// After how many seconds an agent counts as gone: less than usual, so that nobody waits for long.
const DOWN_AFTER: &str = "2";
/// How many lines a list of hosts or containers may have.
const ROWS: usize = 8;

/// What the steps share.
#[derive(Debug)]
pub(super) struct Cluster {
    // Agents and controller end before their lab does.
    pub(super) agents: Vec<Agent>,
    pub(super) controllers: Vec<Controller>,
    pub(super) etcd: Option<Etcd>,
    pub(super) hosts: Vec<Host>,
    pub(super) containers: Vec<Container>,
    pub(super) router: Option<Host>,
    /// How many containers each host has.
    each: u8,
    store: StoreKind,
    pub(super) lab: Lab,
    pub(super) show: Show,
}

impl Cluster {
    pub(super) fn new(lab: Lab, show: Show, options: &Options) -> Self {
        Self {
            agents: Vec::new(),
            controllers: Vec::new(),
            etcd: None,
            hosts: Vec::new(),
            containers: Vec::new(),
            router: None,
            each: options.containers,
            store: options.store,
            lab,
            show,
        }
    }

    /// Everything up to nodes that are ready.
    pub(super) fn build(&mut self, hosts: u16) -> anyhow::Result<()> {
        self.make_hosts(hosts)?;
        self.start_controllers()?;
        self.show.step(
            "A pool of prefixes",
            "Each host gets a /64 of it; of that, a /80 goes to the host's containers.",
        );
        self.sextant(&POOL)?;
        self.show.step(
            "An agent on each host",
            "It claims a prefix, puts it on the container bridge, and keeps the routes to its peers.",
        );
        (0..self.hosts.len()).try_for_each(|index| self.start_agent(index))?;
        self.wait_ready()?;
        self.sextant(&["wait"])?;
        self.make_containers()
    }

    fn make_hosts(&mut self, hosts: u16) -> anyhow::Result<()> {
        self.show.step(
            "Hosts on a switch",
            "Each has an address of 2001:db8::/64 on eth0, and a default route to a router that knows nothing of containers.",
        );
        let router = self.lab.router()?;
        for number in 1..=hosts {
            self.show.waiting(&format!("{number} of {hosts} hosts"));
            self.add_host(&router)?;
        }
        self.show.waited();
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

    fn start_controllers(&mut self) -> anyhow::Result<()> {
        match self.store {
            StoreKind::Embedded => self.show.step(
                "A controller",
                "It keeps who holds which prefix, here in one file. (Plain text, since this network is the demo's own.)",
            ),
            StoreKind::Etcd => self.start_etcd()?,
        }
        let (number, store) = match &self.etcd {
            Some(etcd) => (2, etcd.store()),
            None => (1, "embedded:PATH".to_owned()),
        };
        for number in 1..=number {
            self.start_controller(number, &store)?;
        }
        self.show.waiting("the store and the controllers start");
        let ready = self.controllers.iter().try_for_each(|controller| controller.wait_ready(PATIENCE));
        self.show.waited();
        ready?;
        let url = controller_url(1);
        self.show.command("", &format!("export SEXTANT_CONTROLLER={url} SEXTANT_INSECURE=true"));
        Ok(())
    }

    fn start_etcd(&mut self) -> anyhow::Result<()> {
        self.show.step(
            "An etcd of three members, and two controllers",
            "etcd keeps who holds which prefix; any agent may be at any controller. (Plain text, since this network is the \
             demo's own.)",
        );
        self.etcd = Some(self.lab.etcd(3, &[])?);
        Ok(())
    }

    fn start_controller(&mut self, number: u16, store: &str) -> anyhow::Result<()> {
        let url = controller_url(number);
        let listen = url.trim_start_matches("http://");
        self.show.command(
            "",
            &format!(
                "sextant-controller --store {store} --listen '{listen}' --down-after {DOWN_AFTER} --insecure"
            ),
        );
        let args = ["--down-after", DOWN_AFTER].map(str::to_owned).to_vec();
        let store = self.etcd.as_ref().map(Etcd::store);
        let options = ControllerOptions { number, store, args, ..ControllerOptions::default() };
        self.controllers.push(self.lab.controller(options)?);
        Ok(())
    }

    /// Starts an agent; the first one's command is shown.
    pub(super) fn start_agent(&mut self, index: usize) -> anyhow::Result<()> {
        let host = &self.hosts[index];
        let command = format!(
            "sextant-agent --controller {} --uplink eth0 --bridge docker0 --bridge-create --insecure",
            self.controllers.iter().map(Controller::url).collect::<Vec<_>>().join(",")
        );
        match index {
            0 => self.show.command(host.name(), &command),
            1 if self.agents.len() == 1 => self.show.text("and likewise on the others"),
            _ => {}
        }
        let agent = self.lab.agent(host, self.agent_options())?;
        if index < self.agents.len() {
            self.agents[index] = agent;
        } else {
            self.agents.push(agent);
        }
        Ok(())
    }

    fn agent_options(&self) -> AgentOptions {
        let controllers = (1..).take(self.controllers.len()).collect();
        AgentOptions { controllers, ..AgentOptions::default() }
    }

    /// Waits until all nodes are ready, and live.
    pub(super) fn wait_ready(&self) -> anyhow::Result<()> {
        let all = self.hosts.len();
        let ready = try_poll(PATIENCE, || {
            let nodes = self.nodes()?;
            let is_ready = |node: &&Value| node["state"] == "ready" && node["down"] == false;
            let ready = nodes.iter().filter(is_ready).count();
            self.show.waiting(&format!("{ready} of {all} nodes are ready"));
            ensure!(ready == all, "{ready} of {all} nodes are ready after {PATIENCE:?}: {nodes:?}");
            Ok(())
        });
        self.show.waited();
        ready
    }

    fn make_containers(&mut self) -> anyhow::Result<()> {
        self.show.step("Containers", "Namespaces on each host's bridge, as Docker makes them.");
        (0..self.hosts.len()).try_for_each(|index| self.add_containers(index))?;
        let containers = self.containers.iter().map(|it| format!("{} {}", it.name(), it.address()));
        self.show_in_columns(containers, usize::from(self.each).min(3));
        Ok(())
    }

    fn show_in_columns(&self, names: impl Iterator<Item = String>, count: usize) {
        let names: Vec<_> = names.collect();
        let rows: Vec<_> = names.chunks(count).take(ROWS).map(<[_]>::to_vec).collect();
        self.show.text(&columns(&rows, |_| false));
        if names.len() > ROWS * count {
            self.show.text(&format!("and {} more", names.len() - ROWS * count));
        }
    }

    /// The containers of one host, once each reaches its bridge: a new port's first packets may be lost.
    pub(super) fn add_containers(&mut self, index: usize) -> anyhow::Result<()> {
        let host = &self.hosts[index];
        self.show.waiting(&format!("containers of {}", host.name()));
        let names = (0..self.each).map(|number| char::from(b'a' + number).to_string());
        let new = names.map(|name| host.container(&name)).collect::<anyhow::Result<Vec<_>>>()?;
        let (gateway, _) = host.bridge_address()?;
        for container in &new {
            try_poll(PATIENCE, || container.ping(gateway)?.replied())
                .with_context(|| format!("{} does not reach its bridge {gateway}", container.name()))?;
        }
        self.containers.extend(new);
        self.show.waited();
        Ok(())
    }

    /// Runs `sextant`, which must succeed, and shows what it wrote.
    pub(super) fn sextant(&self, args: &[&str]) -> anyhow::Result<()> {
        self.show.command("", &format!("sextant {}", args.join(" ")));
        let output = self.lab.cli(args)?.succeeded()?;
        self.show.text(&output.stdout);
        Ok(())
    }

    /// The nodes, by `sextant -o json node list`.
    pub(super) fn nodes(&self) -> anyhow::Result<Vec<Value>> {
        let nodes = self.lab.cli_json(&["node", "list"])?;
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

    /// Watches the routes of all hosts but one.
    pub(super) fn watch_peers(&self, of: usize) -> anyhow::Result<Vec<(&Host, RouteMonitor)>> {
        let peers = self.hosts.iter().enumerate().filter(|(index, _)| *index != of);
        peers.map(|(_, host)| Ok((host, RouteMonitor::start(host)?))).collect()
    }

    /// Waits until a node is shown as down.
    pub(super) fn wait_down(&self, name: &str) -> anyhow::Result<()> {
        let down = try_poll(PATIENCE, || {
            self.show.waiting(&format!("the controller has not heard of {name} for {DOWN_AFTER} s"));
            let nodes = self.nodes()?;
            let is_down = nodes.iter().any(|node| node["name"] == name && node["down"] == true);
            ensure!(is_down, "{name} is not shown as down after {PATIENCE:?}: {nodes:?}");
            Ok(())
        });
        self.show.waited();
        down
    }
}

/// How long something waits for datagrams to flow.
pub(super) const FLOW: Duration = SECONDS.saturating_mul(10);
