//! How soon a host that joins is in its peers' kernels (DESIGN §9).
//!
//! Each round, one more host appears with an agent that has never been there. Measured is, for each peer that is there
//! already, from the new agent's announcement (its own log's time, just before it tells the controller) to the route in
//! that peer's kernel (netlink). Then the new host goes and, once its session has ended, is forgotten.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Parser;

use super::{
    numbers::{Times, Usage, millis},
    reference::Reference,
};
use crate::{
    Agent, AgentOptions, Controller, ControllerOptions, Host, Lab, RouteMonitor, catalogue, demo::columns,
    lab::poll::try_poll,
};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(name = "tests/bench join")]
struct Options {
    /// How many hosts there are with the one that joins
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=1000))]
    hosts: u16,
    /// How many times one joins
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// What the daemons log
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Measures, and prints what came of it.
///
/// # Errors
/// If a host that joins is not routed.
pub fn run() -> anyhow::Result<()> {
    let arguments = std::iter::once("tests/bench join".to_owned()).chain(catalogue::options());
    let options = Options::try_parse_from(arguments)?;
    let began = Instant::now();
    let cluster = Cluster::start(&options)?;
    let mut reference = Reference::new(&cluster.lab, &cluster.peers[0])?;
    let (mut each, mut last) = (Times::default(), Times::default());
    let mut gone = Vec::new();
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}", options.rounds));
        reference.measure()?;
        let delays = cluster.join(&format!("j{round}"), &options.log)?;
        delays.iter().for_each(|delay| each.push(*delay));
        last.push(delays.into_iter().max().unwrap_or_default());
        gone.push(format!("j{round}"));
        cluster.forget(&mut gone)?;
    }
    progress("");
    print(&options, &each, &last, &reference);
    cluster.print_usage(began.elapsed())
}

/// Hosts that are announced, and what their kernels say.
struct Cluster {
    // Monitors, agents and controller end before their lab does.
    monitors: Vec<RouteMonitor>,
    agents: Vec<Agent>,
    controller: Controller,
    peers: Vec<Host>,
    lab: Lab,
}

impl Cluster {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let lab = Lab::new("bench join")?;
        progress("hosts");
        let peers = lab.hosts(options.hosts - 1)?;
        let log = options.log.clone();
        let controller = lab.controller(ControllerOptions { log, ..ControllerOptions::default() })?;
        controller.wait_ready(PATIENCE)?;
        lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"])?.succeeded()?;
        progress("agents");
        let start = |host| lab.agent(host, agent_options(&options.log));
        let agents = peers.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        agents.iter().try_for_each(|agent| agent.announced_at(PATIENCE).map(drop))?;
        try_poll(PATIENCE, || all_ready(&lab, peers.len()))?;
        lab.cli(&["wait", "--timeout", "60s"])?.succeeded()?;
        let monitors = peers.iter().map(|host| RouteMonitor::start(host)).collect::<anyhow::Result<_>>()?;
        Ok(Self { monitors, agents, controller, peers, lab })
    }

    /// One more host joins; how soon each peer had its route.
    fn join(&self, name: &str, log: &str) -> anyhow::Result<Vec<Duration>> {
        let host = self.lab.host(name)?;
        let agent = self.lab.agent(&host, agent_options(log))?;
        let to_it = |hops: &[crate::Hop]| hops.iter().any(|hop| hop.gateway == Some(host.address()));
        let mut routed = Vec::new();
        for monitor in &self.monitors {
            routed.push(monitor.wait_for(PATIENCE, |event| !event.gone && to_it(&event.route.hops))?.at);
        }
        let announced = agent.announced_at(PATIENCE)?;
        host.power_off()?;
        Ok(routed.into_iter().map(|at| at.duration_since(announced).unwrap_or_default()).collect())
    }

    /// Forgets those of `gone` whose sessions have ended.
    fn forget(&self, gone: &mut Vec<String>) -> anyhow::Result<()> {
        while let Some(oldest) = gone.first() {
            let done = self.lab.cli(&["node", "forget", oldest])?;
            // It is still up, and so are those after it.
            if done.code == 4 {
                return Ok(());
            }
            done.succeeded()?;
            gone.remove(0);
        }
        Ok(())
    }

    fn print_usage(&self, wall: Duration) -> anyhow::Result<()> {
        let row = |name: &str, pid| {
            let usage = Usage::of(pid)?;
            let share = 100.0 * usage.cpu.as_secs_f64() / wall.as_secs_f64();
            let cpu = format!("{:.2} s cpu ({share:.1} % of a core)", usage.cpu.as_secs_f64());
            let rss = format!("{:.1} MiB", usage.rss as f64 / f64::from(1 << 20));
            anyhow::Ok(vec![name.to_owned(), cpu, rss])
        };
        let agent = self.agents[0].process.pid();
        let rows = [row("controller", self.controller.process.pid())?, row("agent of h1", agent)?];
        println!("\n{}", columns(&rows, |column| column > 0));
        Ok(())
    }
}

fn agent_options(log: &str) -> AgentOptions {
    AgentOptions { log: log.to_owned(), ..AgentOptions::default() }
}

fn all_ready(lab: &Lab, count: usize) -> anyhow::Result<()> {
    let nodes = lab.cli_json(&["node", "list"])?;
    let ready = nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
    ensure!(ready == count, "{ready} of {count} nodes are ready");
    Ok(())
}

fn print(options: &Options, each: &Times, last: &Times, reference: &Reference) {
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Options { hosts, rounds, log } = options;
    println!(
        "tests/bench join --hosts {hosts} --rounds {rounds} --log {log}   ({cores} cores, {build}, embedded store)\n"
    );
    let row = |name: &str, times: &Times| {
        let [p50, p99] = [50, 99].map(|percent| millis(times.percentile(percent)));
        vec![name.to_owned(), times.len().to_string(), p50, p99]
    };
    let rows = [
        ["", "measured", "p50", "p99"].map(str::to_owned).to_vec(),
        row("announcement → route in a peer's kernel", each),
        row("announcement → route in the last peer's kernel", last),
        row("one store commit", &reference.commits),
        row("one round trip (TCP)", &reference.round_trips),
    ];
    println!("{}", columns(&rows, |column| column > 0));
    let unit = reference.commits.percentile(50) + reference.round_trips.percentile(50);
    let ratio = each.percentile(99).as_secs_f64() / unit.as_secs_f64();
    println!("\np99 / (commit + round trip, p50) = {ratio:.1}   (target: at most 5)");
}

fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what}\x1b[K");
        let _ = std::io::stderr().flush();
    }
}
