//! Memory and CPU time of an agent with many peers while nothing changes.

use std::{
    fs,
    io::IsTerminal,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Parser;

use super::numbers::Usage;
use crate::{
    AgentOptions, ControllerOptions, Host, Lab, SECONDS, catalogue, demo::columns, lab::poll::try_poll,
    stub_nodes,
};

/// Enough for any number of routes.
const TIMEOUT: Duration = Duration::from_secs(300);
const MIB: f64 = (1 << 20) as f64;

#[derive(Debug, Parser)]
#[command(name = "tests/bench idle")]
struct Options {
    /// Numbers of peers, measured in turn
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "1000,10000")]
    peers: Vec<u32>,
    /// Duration of each measurement, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Runs it.
///
/// # Errors
/// If the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/bench idle".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let lab = Lab::new("bench idle")?;
    let host = lab.host("h1")?;
    let log = "info".to_owned();
    let args = ["--down-after", stub_nodes::DOWN_AFTER].map(str::to_owned).to_vec();
    let controller = lab.controller(ControllerOptions { log: log.clone(), args, ..Default::default() })?;
    controller.wait_ready(TIMEOUT)?;
    lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"])?.succeeded()?;
    let agent = lab.agent(&host, AgentOptions { log, ..AgentOptions::default() })?;
    agent.wait_ready(TIMEOUT)?;
    let mut rows = vec![["peers", "memory", "peak memory", "CPU"].map(str::to_owned).to_vec()];
    let mut joined = 0;
    for peers in options.peers.iter().copied() {
        progress(&format!("adding {peers} peers"));
        stub_nodes::join(&controller, joined + 1..=peers)?;
        joined = joined.max(peers);
        try_poll(TIMEOUT, || all_routed(&host, joined))?;
        progress(&format!("measuring with {joined} peers for {} s", options.seconds));
        rows.push(watch(agent.process.pid(), joined, Duration::from_secs(options.seconds))?);
    }
    progress("");
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!("tests/bench idle --seconds {}   ({cores} cores, {build})\n", options.seconds);
    println!("{}", columns(&rows, |column| column > 0));
    println!("\ntargets: 30 MiB with 10,000 peers; 0.1 % of a core with 1,000");
    Ok(())
}

/// Counts lines, since `ip -j` takes too long with so many routes.
fn all_routed(host: &Host, peers: u32) -> anyhow::Result<()> {
    let count = host.check(&["sh", "-c", "ip -6 route show proto 66 | wc -l"])?;
    let wanted = peers + 2;
    ensure!(count.trim() == wanted.to_string(), "{} of {wanted} routes exist", count.trim());
    Ok(())
}

fn watch(pid: u32, peers: u32, time: Duration) -> anyhow::Result<Vec<String>> {
    // The agent finishes its work for the new peers first.
    thread::sleep(5 * SECONDS);
    let (before, began) = (processor(pid)?, Instant::now());
    thread::sleep(time);
    let share = 100.0 * (processor(pid)? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    let rss = Usage::of(pid)?.rss as f64 / MIB;
    let peak = status(pid, "VmHWM:")? as f64 / 1024.0;
    let [rss, peak] = [rss, peak].map(|mib| format!("{mib:.1} MiB"));
    Ok(vec![peers.to_string(), rss, peak, format!("{share:.3} % of a core")])
}

/// The CPU time of all threads, in nanoseconds (Documentation/scheduler/sched-stats.rst, the first field).
pub(super) fn processor(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

pub(super) fn status(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what}\x1b[K");
    }
}
