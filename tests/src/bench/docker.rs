//! An agent that keeps a network of Docker's and follows its events, while containers come and go. It checks that the agent misses
//! no event.

use std::{
    collections::BTreeSet,
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
/// So many containers are started, renamed or removed at the same time.
const AT_ONCE: usize = 8;
/// How soon the agent has read an event.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// The events of a container that starts (created, connected, started), and those of one that is removed (dead, disconnected,
/// destroyed).
const OF_A_CONTAINER: u64 = 3;
/// The rules of a firewall that others have filled.
const RULES: usize = 2000;

#[derive(Debug, Parser)]
#[command(name = "tests/bench docker")]
struct Options {
    /// Number of containers that are started, and then removed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    containers: u16,
    /// Number of further events: renamed containers
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,
    /// Duration of the measurement without events, in seconds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
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
    let head = ["", "time", "agent: CPU", "its commands: CPU", "of a core", "memory", "peak memory"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let quiet = || {
        thread::sleep(Duration::from_secs(options.seconds));
        Ok(())
    };
    let named = |what: &str| (0..options.containers).map(|n| format!("{what}{n}")).collect::<Vec<_>>();
    let (names, count) = (named("c"), u64::from(options.containers) * OF_A_CONTAINER);
    rows.push(bed.measured(&format!("{} containers start", names.len()), count, || {
        bed.each(&names, |name| {
            bed.engine.run(&[
                "run",
                "-d",
                "--name",
                name,
                "--network",
                "sextant",
                "lab",
                "sleep",
                "100000",
            ])?;
            Ok(())
        })?;
        bed.lists(&names)
    })?);
    let busy = &names[..names.len().min(AT_ONCE)];
    rows.push(bed.measured(&format!("{} events", options.events), options.events.into(), || {
        bed.each(busy, |name| bed.rename(name, share(options.events, busy, name)))?;
        bed.lists(&renamed(&names, busy, options.events))
    })?);
    rows.push(bed.measured("without events", 0, quiet)?);
    bed.fill_firewall()?;
    rows.push(bed.measured(&format!("the same beside {RULES} rules"), 0, quiet)?);
    rows.push(bed.measured(&format!("{} containers go", names.len()), count, || {
        let left = renamed(&names, busy, options.events);
        bed.each(&left, |name| bed.engine.run(&["rm", "-f", name]).map(drop))?;
        bed.lists(&[])
    })?);
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let version = bed.engine.run(&["version", "-f", "{{.Server.Version}}"])?;
    println!("tests/bench docker   ({cores} cores, {build}, Docker {version})\n");
    println!("{}", columns(&rows, |column| column > 0));
    println!("\nThe agent has read each event.");
    Ok(())
}

/// The number of events of one of the `busy` containers.
fn share(events: u32, busy: &[String], name: &str) -> u32 {
    let (all, at) = (busy.len() as u32, busy.iter().position(|it| it == name).unwrap_or_default() as u32);
    events / all + u32::from(at < events % all)
}

/// The other name of a container.
fn other(name: &str) -> String {
    format!("{name}-renamed")
}

/// The names after all events: each one changes the name of a container to the other one.
fn renamed(names: &[String], busy: &[String], events: u32) -> Vec<String> {
    let is_other = |name: &String| busy.contains(name) && share(events, busy, name) % 2 == 1;
    names.iter().map(|name| if is_other(name) { other(name) } else { name.clone() }).collect()
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
    fn each(&self, names: &[String], act: impl Fn(&str) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
        let act = &act;
        thread::scope(|scope| {
            let parts = names.chunks(names.len().div_ceil(AT_ONCE));
            let parts: Vec<_> =
                parts.map(|part| scope.spawn(move || part.iter().try_for_each(|name| act(name)))).collect();
            parts
                .into_iter()
                .try_for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Renames a container to its other name and back, so many times in all.
    fn rename(&self, name: &str, times: u32) -> anyhow::Result<()> {
        let names = [name.to_owned(), other(name)];
        (0..times as usize).try_for_each(|n| {
            let (from, to) = (&names[n % 2], &names[(n + 1) % 2]);
            self.engine.post(&format!("/containers/{from}/rename?name={to}"))
        })
    }

    /// Waits until the agent lists the containers with these names, and no others.
    fn lists(&self, names: &[String]) -> anyhow::Result<()> {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        try_poll(READ_WITHIN, || {
            let shown = self.lab.cli_json(&["node", "show", "h1", "--containers"])?;
            let all = shown["containers"].as_array().map_or(&[][..], Vec::as_slice);
            let all: BTreeSet<_> = all.iter().filter_map(|it| it["name"].as_str()).collect();
            ensure!(all == wanted, "{} of {} containers", all.intersection(&wanted).count(), wanted.len());
            Ok(())
        })
    }

    /// Gives the host a firewall with many rules.
    fn fill_firewall(&self) -> anyhow::Result<()> {
        let rules: String =
            (0..RULES).map(|n| format!("-A INPUT -s fd00:{n:x}::/32 -p tcp --dport 9 -j DROP\n")).collect();
        let restore = format!("ip6tables-restore --noflush <<'END'\n*filter\n{rules}COMMIT\nEND\n");
        self.agent.host().check(&["sh", "-c", &restore]).map(drop)
    }

    /// The processor time and memory of the agent during an action with so many events, as a row.
    fn measured(
        &self,
        what: &str,
        events: u64,
        action: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let pid = self.agent.process.pid();
        // What came before is over.
        thread::sleep(2 * SECONDS);
        let (before, children) = (idle::processor(pid)?, Usage::of(pid)?.children);
        let (read, began) = (self.agent.docker_events()?, Instant::now());
        action()?;
        let took = began.elapsed().as_secs_f64();
        try_poll(READ_WITHIN, || {
            let seen = self.agent.docker_events()? - read;
            ensure!(seen == events, "{what}: the agent has read {seen} of {events} events");
            Ok(())
        })?;
        let usage = Usage::of(pid)?;
        let own = (idle::processor(pid)? - before).as_secs_f64();
        let children = (usage.children - children).as_secs_f64();
        Ok(vec![
            what.to_owned(),
            format!("{took:.1} s"),
            format!("{own:.2} s"),
            format!("{children:.2} s"),
            format!("{:.2} %", 100.0 * (own + children) / took),
            format!("{:.1} MiB", usage.rss as f64 / MIB),
            format!("{:.1} MiB", idle::status(pid, "VmHWM:")? as f64 / 1024.0),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_after_all_events_are_those_of_the_last_one_of_each_container() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let busy = &names[..2];
        assert_eq!(busy.iter().map(|name| share(5, busy, name)).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(renamed(&names, busy, 5), ["a-renamed", "b", "c"]);
        assert_eq!(renamed(&names, busy, 4), names);
    }
}
