//! The time from a host's announcement to its route in the peers' kernels (DESIGN §9).
//!
//! Each round adds a host with a new agent. For each existing peer, the time is measured from the new agent's announcement
//! (by its log, just before it sends the message) to the route in that peer's kernel (by netlink). Then the new host is
//! switched off and, once its session has ended, its node is removed.

use std::{
    io::{IsTerminal, Write},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;

use super::{
    numbers::{Times, Usage, millis},
    reference::Reference,
};
use crate::{
    Agent, AgentOptions, Controller, ControllerOptions, Etcd, Host, Lab, RouteMonitor, SECONDS, StoreKind,
    catalogue, demo::columns, lab::poll::try_poll,
};

/// The deadline of each wait.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(name = "tests/bench join")]
struct Options {
    /// Number of hosts, including the one that joins
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=1000))]
    hosts: u16,
    /// Number of joins
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// The controller's store
    #[arg(long, value_name = "KIND", value_enum, default_value = "embedded")]
    store: StoreKind,
    /// Duration of the idle measurement afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    rest: u32,
    /// Log level of the daemons
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Measures, and prints the results.
///
/// # Errors
/// If the peers get no route to a joining host.
pub fn run() -> anyhow::Result<()> {
    let arguments = std::iter::once("tests/bench join".to_owned()).chain(catalogue::options());
    let options = Options::try_parse_from(arguments)?;
    let cluster = Cluster::start(&options)?;
    let mut reference = Reference::new(&cluster.lab, cluster.etcd.as_ref(), &cluster.peers[0])?;
    let (before, began) = (cluster.usage()?, Instant::now());
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
    let (joined, wall) = (cluster.usage()?, began.elapsed());
    progress("");
    print(&options, &each, &last, &reference);
    print_usage("while hosts join", &before, &joined, wall);
    progress("idle");
    try_poll(TIMEOUT, || {
        cluster.forget(&mut gone)?;
        ensure!(gone.is_empty(), "still up: {gone:?}");
        Ok(())
    })?;
    let (before, began) = (cluster.usage()?, Instant::now());
    thread::sleep(options.rest * SECONDS);
    let idle = cluster.usage()?;
    progress("");
    print_usage("idle", &before, &idle, began.elapsed());
    Ok(())
}

/// Announced hosts, and monitors of their kernels' routes.
struct Cluster {
    // Monitors, agents and controller end before their lab does.
    monitors: Vec<RouteMonitor>,
    agents: Vec<Agent>,
    controller: Controller,
    etcd: Option<Etcd>,
    peers: Vec<Host>,
    lab: Lab,
}

impl Cluster {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let lab = Lab::new("bench join")?;
        progress("adding hosts");
        let peers = lab.hosts(options.hosts - 1)?;
        let log = options.log.clone();
        let etcd = match options.store {
            StoreKind::Embedded => None,
            StoreKind::Etcd => Some(lab.etcd(3, &[])?),
        };
        let store = etcd.as_ref().map(Etcd::store);
        let controller = lab.controller(ControllerOptions { log, store, ..ControllerOptions::default() })?;
        controller.wait_ready(TIMEOUT)?;
        lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"])?.succeeded()?;
        progress("starting agents");
        let start = |host| lab.agent(host, agent_options(&options.log));
        let agents = peers.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        agents.iter().try_for_each(|agent| agent.announced_at(TIMEOUT).map(drop))?;
        try_poll(TIMEOUT, || all_ready(&lab, peers.len()))?;
        lab.cli(&["wait", "--timeout", "60s"])?.succeeded()?;
        let monitors = peers.iter().map(|host| RouteMonitor::start(host)).collect::<anyhow::Result<_>>()?;
        Ok(Self { monitors, agents, controller, etcd, peers, lab })
    }

    /// Adds a host; returns the time until each peer has the route to it.
    fn join(&self, name: &str, log: &str) -> anyhow::Result<Vec<Duration>> {
        let host = self.lab.host(name)?;
        let agent = self.lab.agent(&host, agent_options(log))?;
        let to_it = |hops: &[crate::Hop]| hops.iter().any(|hop| hop.gateway == Some(host.address()));
        let mut routed = Vec::new();
        for monitor in &self.monitors {
            routed.push(monitor.wait_for(TIMEOUT, |event| !event.gone && to_it(&event.route.hops))?.at);
        }
        let announced = agent.announced_at(TIMEOUT)?;
        host.power_off()?;
        let delays = routed.into_iter().map(|at| at.duration_since(announced));
        delays.collect::<Result<_, _>>().context("a peer had the route before the announcement")
    }

    /// Removes the nodes of `gone` whose sessions have ended.
    fn forget(&self, gone: &mut Vec<String>) -> anyhow::Result<()> {
        while let Some(oldest) = gone.first() {
            let done = self.lab.cli(&["node", "forget", "--confirm", "1", oldest])?;
            // This node and the later ones are still up.
            if done.code == 4 {
                return Ok(());
            }
            done.succeeded()?;
            gone.remove(0);
        }
        Ok(())
    }

    /// The usage of the controller and of each agent.
    fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        let agents = self.agents.iter().map(|agent| agent.process.pid());
        std::iter::once(self.controller.process.pid()).chain(agents).map(Usage::of).collect()
    }
}

fn print_usage(when: &str, before: &[Usage], after: &[Usage], wall: Duration) {
    let mib = |rss: u64| format!("{:.1} MiB", rss as f64 / f64::from(1 << 20));
    let share = |(before, after): (&Usage, &Usage)| {
        100.0 * (after.cpu - before.cpu).as_secs_f64() / wall.as_secs_f64()
    };
    let shares: Vec<_> = before.iter().zip(after).map(share).collect();
    let agents = (shares.len() - 1).max(1) as f64;
    let (mean, most) = (shares[1..].iter().sum::<f64>() / agents, after[1..].iter().map(|it| it.rss).max());
    let row =
        |name: &str, share: f64, rss| vec![name.to_owned(), format!("{share:.2} % of a core"), mib(rss)];
    let rows = [
        row(&format!("{when}: controller"), shares[0], after[0].rss),
        row(&format!("{when}: agent (mean CPU, maximum memory)"), mean, most.unwrap_or_default()),
    ];
    println!("\n{}", columns(&rows, |column| column > 0));
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
    let Options { hosts, rounds, log, store, .. } = options;
    println!(
        "tests/bench join --hosts {hosts} --rounds {rounds} --log {log} --store {}   ({cores} cores, {build})\n",
        match store {
            StoreKind::Embedded => "embedded",
            StoreKind::Etcd => "etcd",
        }
    );
    let row = |name: &str, times: &Times| {
        let [p50, p99] = [50, 99].map(|percent| millis(times.percentile(percent)));
        vec![name.to_owned(), times.len().to_string(), p50, p99]
    };
    let rows = [
        ["", "measured", "p50", "p99"].map(str::to_owned).to_vec(),
        row("announcement → route in a peer's kernel", each),
        row("announcement → route in all peers' kernels", last),
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
