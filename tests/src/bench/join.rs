//! The time from a host's announcement to its route in the peers' kernels (DESIGN §9).
//!
//! Each round adds a host with a new agent. For each existing peer, the time is measured from the new agent's announcement
//! (by its log, just before it sends the message) to the route in that peer's kernel (by netlink). Then the new host is
//! switched off and, once its session has ended, its node is removed.
//!
//! With `--tls`, a second cluster with an authority of its own does the same over TLS, each join right after one of the other cluster.

use std::{
    io::{IsTerminal, Write},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, ensure};
use clap::Parser;

use super::{
    numbers::{Times, Usage, millis},
    reference::Reference,
};
use crate::{
    Agent, AgentOptions, CliOutput, Controller, ControllerOptions, Etcd, Host, Lab, OwnAuthority,
    RouteMonitor, SECONDS, StoreKind, catalogue, demo::columns, lab::poll::try_poll,
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
    /// Measure a second cluster over TLS beside the one over plain text
    #[arg(long)]
    tls: bool,
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
    let mut clusters = vec![Cluster::start(&options, false)?];
    if options.tls {
        clusters.push(Cluster::start(&options, true)?);
    }
    let plain = &clusters[0];
    let mut reference = Reference::new(&plain.lab, plain.etcd.as_ref(), &plain.peers[0])?;
    let mut measured = clusters.iter().map(Measured::begin).collect::<anyhow::Result<Vec<_>>>()?;
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}", options.rounds));
        reference.measure()?;
        for measured in &mut measured {
            measured.join(&format!("j{round}"), &options.log)?;
        }
    }
    measured.iter_mut().try_for_each(Measured::end)?;
    progress("");
    print(&options, &measured, &reference);
    measured.iter().for_each(|it| print_usage(&it.named("while hosts join"), &it.before, &it.after, it.wall));
    progress("idle");
    measured.iter_mut().try_for_each(Measured::rest)?;
    let (before, began) = (usages(&clusters)?, Instant::now());
    thread::sleep(options.rest * SECONDS);
    let (idle, wall) = (usages(&clusters)?, began.elapsed());
    progress("");
    for ((measured, before), idle) in measured.iter().zip(&before).zip(&idle) {
        print_usage(&measured.named("idle"), before, idle, wall);
    }
    Ok(())
}

fn usages(clusters: &[Cluster]) -> anyhow::Result<Vec<Vec<Usage>>> {
    clusters.iter().map(Cluster::usage).collect()
}

/// What a cluster's joins took.
struct Measured<'a> {
    cluster: &'a Cluster,
    /// From the announcement to the route in each peer's kernel, and in the last one's; and to that from the start of the process.
    each: Times,
    last: Times,
    started: Times,
    /// Nodes that are not removed yet.
    gone: Vec<String>,
    before: Vec<Usage>,
    after: Vec<Usage>,
    began: Instant,
    wall: Duration,
}

impl<'a> Measured<'a> {
    fn begin(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let before = cluster.usage()?;
        let (each, last, started) = (Times::default(), Times::default(), Times::default());
        let (gone, after, began, wall) = (Vec::new(), before.clone(), Instant::now(), Duration::ZERO);
        Ok(Self { cluster, each, last, started, gone, before, after, began, wall })
    }

    fn join(&mut self, name: &str, log: &str) -> anyhow::Result<()> {
        let (delays, since_start) = self.cluster.join(name, log)?;
        delays.iter().for_each(|delay| self.each.push(*delay));
        self.last.push(delays.into_iter().max().unwrap_or_default());
        self.started.push(since_start);
        self.gone.push(name.to_owned());
        self.cluster.forget(&mut self.gone)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        (self.after, self.wall) = (self.cluster.usage()?, self.began.elapsed());
        Ok(())
    }

    /// Waits until no joined host is left.
    fn rest(&mut self) -> anyhow::Result<()> {
        try_poll(TIMEOUT, || {
            self.cluster.forget(&mut self.gone)?;
            ensure!(self.gone.is_empty(), "still up: {:?}", self.gone);
            Ok(())
        })
    }

    fn named(&self, what: &str) -> String {
        let how = if self.cluster.authority.is_some() { ", over TLS" } else { "" };
        format!("{what}{how}")
    }
}

/// Announced hosts, and monitors of their kernels' routes.
struct Cluster {
    // Monitors, agents and controller end before their lab does.
    monitors: Vec<RouteMonitor>,
    agents: Vec<Agent>,
    controller: Controller,
    etcd: Option<Etcd>,
    peers: Vec<Host>,
    /// Of a cluster over TLS.
    authority: Option<OwnAuthority>,
    lab: Lab,
}

impl Cluster {
    fn start(options: &Options, tls: bool) -> anyhow::Result<Self> {
        let lab = Lab::new(if tls { "bench join tls" } else { "bench join" })?;
        let authority = tls.then(|| OwnAuthority::make(&lab)).transpose()?;
        progress("adding hosts");
        let peers = lab.hosts(options.hosts - 1)?;
        let log = options.log.clone();
        let etcd = match options.store {
            StoreKind::Embedded => None,
            StoreKind::Etcd => Some(lab.etcd(3, &[])?),
        };
        let store = etcd.as_ref().map(Etcd::store);
        let args = authority.iter().flat_map(|it| ["--pki".to_owned(), it.dir_of(1).display().to_string()]);
        let args = args.collect();
        let controller =
            lab.controller(ControllerOptions { log, store, args, ..ControllerOptions::default() })?;
        controller.wait_ready(TIMEOUT)?;
        let mut cluster =
            Self { monitors: Vec::new(), agents: Vec::new(), controller, etcd, peers, authority, lab };
        cluster.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"])?.succeeded()?;
        progress("starting agents");
        for host in &cluster.peers {
            cluster.certify(host)?;
            cluster.agents.push(cluster.agent(host, &options.log)?);
        }
        cluster.agents.iter().try_for_each(|agent| agent.announced_at(TIMEOUT).map(drop))?;
        try_poll(TIMEOUT, || cluster.all_ready())?;
        cluster.cli(&["wait", "--timeout", "60s"])?.succeeded()?;
        cluster.monitors =
            cluster.peers.iter().map(|host| RouteMonitor::start(host)).collect::<anyhow::Result<_>>()?;
        Ok(cluster)
    }

    /// Runs `sextant`.
    fn cli(&self, args: &[&str]) -> anyhow::Result<CliOutput> {
        match &self.authority {
            Some(authority) => authority.cli(&self.lab, 1, args),
            None => self.lab.cli(args),
        }
    }

    /// Gives a host its certificate, where it needs one.
    fn certify(&self, host: &Host) -> anyhow::Result<()> {
        self.authority.as_ref().map_or(Ok(()), |authority| authority.join_anew(&self.lab, 1, host))
    }

    fn agent(&self, host: &Host, log: &str) -> anyhow::Result<Agent> {
        let (log, over_tls) = (log.to_owned(), self.authority.is_some());
        self.lab.agent(host, AgentOptions { log, over_tls, ..AgentOptions::default() })
    }

    fn all_ready(&self) -> anyhow::Result<()> {
        let listed = self.cli(&["-o", "json", "node", "list"])?.succeeded()?.stdout;
        let nodes: serde_json::Value = serde_json::from_str(&listed)?;
        let ready = nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
        ensure!(ready == self.peers.len(), "{ready} of {} nodes are ready", self.peers.len());
        Ok(())
    }

    /// Adds a host; returns the time until each peer has the route to it, and until the last one has it since the agent's start.
    fn join(&self, name: &str, log: &str) -> anyhow::Result<(Vec<Duration>, Duration)> {
        let host = self.lab.host(name)?;
        self.certify(&host)?;
        let start = SystemTime::now();
        let agent = self.agent(&host, log)?;
        let to_it = |hops: &[crate::Hop]| hops.iter().any(|hop| hop.gateway == Some(host.address()));
        let mut routed = Vec::new();
        for monitor in &self.monitors {
            routed.push(monitor.wait_for(TIMEOUT, |event| !event.gone && to_it(&event.route.hops))?.at);
        }
        let announced = agent.announced_at(TIMEOUT)?;
        host.power_off()?;
        let last = routed.iter().max().copied().unwrap_or(start);
        let delays = routed.into_iter().map(|at| at.duration_since(announced));
        let delays =
            delays.collect::<Result<_, _>>().context("a peer had the route before the announcement")?;
        Ok((delays, last.duration_since(start)?))
    }

    /// Removes the nodes of `gone` whose sessions have ended.
    fn forget(&self, gone: &mut Vec<String>) -> anyhow::Result<()> {
        while let Some(oldest) = gone.first() {
            let done = self.cli(&["node", "forget", "--confirm", "1", oldest])?;
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

fn print(options: &Options, measured: &[Measured<'_>], reference: &Reference) {
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
    let mut rows = vec![["", "measured", "p50", "p99"].map(str::to_owned).to_vec()];
    for it in measured {
        rows.extend([
            row(&it.named("announcement → route in a peer's kernel"), &it.each),
            row(&it.named("announcement → route in all peers' kernels"), &it.last),
            row(&it.named("start of the agent → route in all peers' kernels"), &it.started),
        ]);
    }
    rows.extend([
        row("one store commit", &reference.commits),
        row("one round trip (TCP)", &reference.round_trips),
    ]);
    println!("{}", columns(&rows, |column| column > 0));
    let p99 = |times: &Times| times.percentile(99).as_secs_f64();
    if let [plain, tls] = measured {
        let (announced, started) =
            (p99(&tls.each) / p99(&plain.each), p99(&tls.started) / p99(&plain.started));
        println!(
            "\np99 over TLS / over plain text = {announced:.2}, from the start of the agent {started:.2}   (target: at most 1.3)"
        );
    }
    let each = &measured[0].each;
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
