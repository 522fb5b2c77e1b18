//! Hosts with an engine each, on whose own bridge containers are.

use std::{fs, path::PathBuf};

use nix::sys::signal::Signal;
use sextant_tests::{
    AgentOptions, Docker, Host, SECONDS, bin,
    cluster::{Cluster, PoolArgs},
    poll,
};

use crate::bed::{CONFLICT, POOL};

/// A cluster whose hosts have engines with default bridges.
pub struct SetupBed {
    pub engines: Vec<Docker>,
    pub cluster: Cluster,
    /// The arguments of each engine.
    args: Vec<Vec<String>>,
}

impl SetupBed {
    /// Starts engines and agents on so many hosts; nothing is set up. Each agent has a config file.
    pub fn start(test: &str, hosts: u16, engine: &[&str]) -> Self {
        Self::start_each(test, &vec![engine; hosts.into()])
    }

    /// As [`Self::start`], with a host for each engine, which has these arguments.
    pub fn start_each(test: &str, args: &[&[&str]]) -> Self {
        Self::start_in(test, POOL, args)
    }

    /// As [`Self::start_each`], with this pool.
    pub fn start_in(test: &str, pool: PoolArgs, args: &[&[&str]]) -> Self {
        let mut cluster = Cluster::without_agents(test, u16::try_from(args.len()).unwrap(), pool);
        let start = |(host, args): (&Host, &&[&str])| Docker::start_with_bridge(host, args).unwrap();
        let engines: Vec<_> = cluster.hosts.iter().zip(args).map(start).collect();
        for (index, engine) in engines.iter().enumerate() {
            let config = config(&cluster, index);
            let (socket, daemon_json) = (engine.socket(), engine.daemon_json());
            let text = format!("[docker]\nsocket = {socket:?}\ndaemon-json = {daemon_json:?}\n");
            fs::write(&config, text).unwrap();
            cluster.start_agent_with(index, options(&config, &[]));
        }
        cluster.settle();
        let owned = |args: &&[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { engines, cluster, args: args.iter().map(owned).collect() }
    }

    /// The config file of a host's agent.
    pub fn config(&self, index: usize) -> PathBuf {
        config(&self.cluster, index)
    }

    /// Runs `sextant-agent docker setup` on a host.
    pub fn setup(&self, index: usize, args: &[&str]) -> anyhow::Result<String> {
        let words = self.setup_words(index, args);
        self.cluster.hosts[index].check(&words)
    }

    /// The words of that command.
    pub fn setup_words(&self, index: usize, args: &[&str]) -> Vec<String> {
        let host = &self.cluster.hosts[index];
        let state = self.cluster.lab.state_dir(host).display().to_string();
        let (agent, config) = (bin("sextant-agent").unwrap(), self.config(index));
        let agent = [agent.to_str().unwrap(), "--config", config.to_str().unwrap(), "--state-dir", &state];
        [&agent[..], &["docker", "setup"], args].concat().iter().map(|word| (*word).to_owned()).collect()
    }

    /// Restarts the engine of a host.
    pub fn restart_engine(&mut self, index: usize) -> anyhow::Result<()> {
        let args: Vec<_> = self.args[index].iter().map(String::as_str).collect();
        self.engines[index].end_engine(Signal::SIGTERM)?;
        self.engines[index].start_engine(&args)
    }

    /// Restarts the agent of a host, which reads its config file again.
    pub fn restart_agent(&mut self, index: usize) {
        self.restart_agent_with(index, &[]);
    }

    /// As [`Self::restart_agent`], with more arguments.
    pub fn restart_agent_with(&mut self, index: usize, args: &[&str]) {
        self.restart_agent_by(index, options(&config(&self.cluster, index), args));
    }

    fn restart_agent_by(&mut self, index: usize, options: AgentOptions) {
        let agent = self.cluster.agents.remove(index);
        agent.process.terminate(10 * SECONDS).unwrap();
        self.cluster.start_agent_with(index, options);
        let last = self.cluster.agents.pop().unwrap();
        self.cluster.agents.insert(index, last);
    }

    /// As [`Self::restart_agent`], with this bridge, or with the one of the mode.
    pub fn restart_agent_on(&mut self, index: usize, bridge: &str) {
        let options =
            AgentOptions { bridge: bridge.to_owned(), ..options(&config(&self.cluster, index), &[]) };
        self.restart_agent_by(index, options);
    }

    /// Sets a host up, as an operator does where systemd does not run the engine.
    pub fn set_up(&mut self, index: usize, mode: &str) {
        self.setup(index, &["--mode", mode]).unwrap();
        self.restart_engine(index).unwrap();
        self.restart_agent(index);
        self.setup(index, &[]).unwrap();
    }

    /// The container prefix of a host.
    pub fn container_prefix(&self, index: usize) -> String {
        let node = self.cluster.node(self.cluster.hosts[index].name());
        node["claims"][0]["container_prefixes"][0].as_str().unwrap().to_owned()
    }

    /// What docker0 of a host has: its global addresses, and the routes that programs have put there.
    pub fn bridge(&self, index: usize) -> String {
        let host = &self.cluster.hosts[index];
        let addresses = host.ip("-6 -o address show dev docker0 scope global").unwrap();
        let addresses = addresses.lines().filter_map(|line| line.split_whitespace().nth(3));
        let routes = host.ip("-6 route show dev docker0 proto boot").unwrap();
        let routes =
            routes.lines().filter_map(|line| line.split_whitespace().next().map(|it| format!("boot {it}")));
        addresses.map(str::to_owned).chain(routes).collect::<Vec<_>>().join(", ")
    }

    /// Waits until `sextant status` has these words.
    pub fn status_has(&self, words: &[&str]) {
        poll(&format!("status has {words:?}"), 20 * SECONDS, || {
            let status = self.cluster.sextant(&["status"]);
            anyhow::ensure!(words.iter().all(|word| status.contains(word)), "{status}");
            Ok(())
        });
    }

    /// Waits until `sextant status` finds nothing wrong with Docker, and reports no change of its bridge.
    pub fn status_is_silent(&self) {
        poll("status does not speak of Docker", 20 * SECONDS, || {
            let status = self.cluster.sextant(&["status"]);
            let words = ["Docker", "daemon.json", "docker0", CONFLICT];
            anyhow::ensure!(!words.iter().any(|word| status.contains(word)), "{status}");
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

fn config(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.hosts[index].dir().join(format!("agent-{index}.toml"))
}

fn options(config: &std::path::Path, more: &[&str]) -> AgentOptions {
    let config = config.display().to_string();
    AgentOptions {
        bridge: "docker0".into(),
        bridge_create: false,
        args: ["--config", &config].iter().chain(more).map(|arg| (*arg).to_owned()).collect(),
        ..AgentOptions::default()
    }
}
