//! Measurements inside a namespace, by a child process that prints its result.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{Measured, Step, bare, engine, objects, rtnetlink};
use crate::{Lab, bench::idle};

/// The method to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Prepared messages.
    Bare,
    /// Prepared messages for routes through nexthop objects.
    Objects,
    /// The agent's netlink batches.
    Batches,
    /// The agent's engine.
    Engine,
    /// The rtnetlink library.
    Rtnetlink,
}

/// Measures in a child process in a new host's namespace.
pub(super) fn measure(lab: &Lab, name: &str, kind: Kind, routes: u32) -> anyhow::Result<Measured> {
    let host = lab.host(name)?;
    let program = std::env::current_exe()?.display().to_string();
    let kind = format!("{kind:?}").to_lowercase();
    let output = host.check(&[&program, "routes", "--child", &kind, "--routes", &routes.to_string()])?;
    host.power_off()?;
    Measured::from_json(output.lines().last().unwrap_or_default()).with_context(|| output.clone())
}

/// Measures in this process, and prints the result.
pub(super) fn run(kind: Kind, routes: u32) -> anyhow::Result<()> {
    let mut measured = match kind {
        Kind::Bare => bare::measure(routes),
        Kind::Objects => objects::measure(routes),
        Kind::Batches => engine::batches(routes),
        Kind::Engine => engine::engine(routes),
        Kind::Rtnetlink => rtnetlink::measure(routes),
    }?;
    measured.peak = peak(std::process::id())?;
    println!("{}", measured.to_json());
    Ok(())
}

/// Measures the time and the CPU time of an action of this process.
pub(super) fn timed<T>(action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Step)> {
    let watch = Stopwatch::start()?;
    let done = action()?;
    Ok((done, watch.stop()?))
}

/// Time, and processor time of this process, since its start.
pub(super) struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(super) fn start() -> anyhow::Result<Self> {
        Ok(Self { cpu: cpu()?, began: Instant::now() })
    }

    pub(super) fn stop(self) -> anyhow::Result<Step> {
        let took = self.began.elapsed();
        Ok(Step { took, cpu: cpu()?.saturating_sub(self.cpu) })
    }
}

/// The CPU time of this process so far.
pub(super) fn cpu() -> anyhow::Result<Duration> {
    idle::processor(std::process::id())
}

/// The peak memory of a process, in octets.
pub(in crate::bench) fn peak(pid: u32) -> anyhow::Result<u64> {
    idle::status(pid, "VmHWM:").map(|kib| kib << 10)
}

/// The index of `eth0`: the second column of this namespace's `if_inet6`.
pub(super) fn uplink() -> anyhow::Result<u32> {
    let text = fs::read_to_string("/proc/thread-self/net/if_inet6")?;
    let line = text.lines().find(|line| line.split_whitespace().last() == Some("eth0"));
    let index = line.and_then(|line| line.split_whitespace().nth(1)).context("eth0 has no address")?;
    Ok(u32::from_str_radix(index, 16)?)
}
