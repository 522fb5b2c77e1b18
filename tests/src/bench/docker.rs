//! An agent that keeps a network of Docker's and follows its events, while containers come and go.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Parser;

use super::{idle, numbers::Usage};
use crate::{
    Agent, AgentOptions, ControllerOptions, Docker, Lab, SECONDS, catalogue, demo::columns,
    lab::poll::try_poll,
};

const TIMEOUT: Duration = Duration::from_secs(120);
const MIB: f64 = (1 << 20) as f64;
/// So many containers are started or removed at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Parser)]
#[command(name = "tests/bench docker")]
struct Options {
    /// Number of containers that are started, and then removed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    containers: u16,
    /// Number of events in a row: renamed containers
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,
}

/// A host with an engine and an agent.
struct Bed {
    // They end before their lab does.
    agent: Agent,
    engine: Docker,
    _controller: crate::Controller,
    lab: Lab,
}

/// Runs it.
///
/// # Errors
/// If the lab fails, or the agent has missed an event.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/bench docker".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let bed = Bed::start()?;
    let mut rows = vec![["", "time", "agent: CPU", "of a core", "agent: memory"].map(str::to_owned).to_vec()];
    let names: Vec<String> = (0..options.containers).map(|n| format!("c{n}")).collect();
    rows.push(bed.measured(&format!("{} containers start", names.len()), || {
        bed.each(&names, |name| {
            bed.engine.run(&["run", "-d", "--name", name, "--network", "sextant", "lab", "sleep", "100000"])
        })?;
        bed.lists(names.len(), "c0")
    })?);
    rows.push(bed.measured(&format!("{} events", options.events), || {
        for n in 0..options.events {
            bed.engine.post(&format!(
                "/containers/{}/rename?name=r{}",
                if n == 0 { "c0".into() } else { format!("r{}", n - 1) },
                n
            ))?;
        }
        bed.lists(names.len(), &format!("r{}", options.events - 1))
    })?);
    rows.push(bed.measured(&format!("{} containers go", names.len()), || {
        let renamed = format!("r{}", options.events - 1);
        let left: Vec<String> = names.iter().skip(1).cloned().chain([renamed]).collect();
        bed.each(&left, |name| bed.engine.run(&["rm", "-f", name]))?;
        bed.lists(0, "")
    })?);
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let version = bed.engine.run(&["version", "-f", "{{.Server.Version}}"])?;
    println!("tests/bench docker   ({cores} cores, {build}, Docker {version})\n");
    println!("{}", columns(&rows, |column| column > 0));
    Ok(())
}

impl Bed {
    fn start() -> anyhow::Result<Self> {
        let lab = Lab::new("bench docker")?;
        let host = lab.hosts(1)?.remove(0);
        let controller = lab.controller(ControllerOptions { log: "info".into(), ..Default::default() })?;
        controller.wait_ready(TIMEOUT)?;
        let pool = ["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64", "--container-len", "80"];
        lab.cli(&pool)?.succeeded()?;
        let engine = Docker::start(&host, &[])?;
        let socket = engine.socket().display().to_string();
        let args = ["--docker-mode", "network", "--docker-socket", &socket, "--bridge", "sextant0"];
        let args = args.map(str::to_owned).to_vec();
        let agent = lab.agent(&host, AgentOptions { args, log: "info".into(), ..AgentOptions::default() })?;
        agent.wait_ready(TIMEOUT)?;
        try_poll(TIMEOUT, || engine.run(&["network", "inspect", "sextant"]))?;
        Ok(Self { agent, engine, _controller: controller, lab })
    }

    /// Does something with each container, several at once.
    fn each(
        &self,
        names: &[String],
        act: impl Fn(&str) -> anyhow::Result<String> + Sync,
    ) -> anyhow::Result<()> {
        let act = &act;
        thread::scope(|scope| {
            let parts = names.chunks(names.len().div_ceil(AT_ONCE));
            let parts: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().try_for_each(|name| act(name).map(drop))))
                .collect();
            parts
                .into_iter()
                .try_for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Waits until the agent lists so many containers, one of this name among them.
    fn lists(&self, count: usize, name: &str) -> anyhow::Result<()> {
        try_poll(TIMEOUT, || {
            let shown = self.lab.cli_json(&["node", "show", "h1", "--containers"])?;
            let all = shown["containers"].as_array().map_or(&[][..], Vec::as_slice);
            ensure!(all.len() == count, "{} of {count} containers", all.len());
            ensure!(name.is_empty() || all.iter().any(|it| it["name"] == name), "no {name}");
            Ok(())
        })
    }

    /// The processor time and memory of the agent during an action, as a row.
    fn measured(
        &self,
        what: &str,
        action: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let pid = self.agent.process.pid();
        // What came before is over.
        thread::sleep(2 * SECONDS);
        let (before, began) = (idle::processor(pid)?, Instant::now());
        action()?;
        let (used, took) = ((idle::processor(pid)? - before).as_secs_f64(), began.elapsed().as_secs_f64());
        Ok(vec![
            what.to_owned(),
            format!("{took:.1} s"),
            format!("{used:.2} s"),
            format!("{:.1} %", 100.0 * used / took),
            format!("{:.1} MiB", Usage::of(pid)?.rss as f64 / MIB),
        ])
    }
}
