//! `sextant-agent doctor`: checks this host, and shows each problem with its fix. The agent runs the same checks once when
//! it starts, and logs warnings.
//!
//! [`checks`] decides; this module reads the facts, and [`docker`] those of the container engine. Only `--fix` makes changes: it
//! raises limits of the kernel, only from the machine's initial network namespace, and removes addresses and routes that Docker left.

mod checks;
mod docker;
mod icmpv6;
mod neighbour_proxy;
mod networks;
mod paths;
mod published;

use std::{fs, process::ExitCode, time::Duration};

use anyhow::Context;
use sextant_streams::Printer;
use tokio::process::Command;

use self::checks::{Facts, Problem, problems};
use crate::{
    certificates,
    host::{Wanted, apply::find, earlier, findings, ground, privilege, undo::undo, unnamed},
    kernel::{Kernel, KernelError, NetlinkKernel, RouteTarget, Scope},
    neighbours,
    problems::Finding,
    settings::{BridgeSource, HostSettings, Role},
    state::{StateDir, StateError},
    uplinks::first_guess,
};

/// Timeout of the commands that list firewall rules.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Checks the host, prints the problems, and applies safe fixes if `fix` is set, whether or not anyone reads the output. Fails if
/// a problem remains.
///
/// # Errors
/// If the kernel cannot be read, or refuses a fix, or the output cannot be written.
pub async fn run(host: &HostSettings, source: &BridgeSource, fix: bool) -> anyhow::Result<ExitCode> {
    privilege::check()?;
    let kernel = NetlinkKernel::open()?;
    let (mut out, mut left) = (Printer::stdout(), 0);
    let (host, unnamed) = with_bridge(host, source);
    let (host, undetermined) = with_uplinks(&kernel, host).await?;
    let mut all: Vec<_> = unnamed.into_iter().map(shown_only).collect();
    all.extend(problems(&facts(&kernel, &host).await?));
    all.extend(neighbours::problems_now(&kernel).await?.into_iter().map(shown_only));
    all.extend(certificates::finding_now(host.tls.as_ref()).map(shown_only));
    all.extend(of_settings(&kernel, &host, undetermined).await?);
    for problem in all {
        out.line(&problem);
        if fix && !problem.sysctls.is_empty() && in_initial_namespace() {
            apply_fix(&kernel, &problem, &mut out)?;
        } else if fix && !problem.commands.is_empty() {
            left += carry_out(&problem.commands, &mut out).await;
        } else {
            left += 1;
        }
    }
    match left {
        0 => out.line("no problems found"),
        _ => out.line(format_args!("problems to fix: {left}")),
    }
    out.finish().context("standard output")?;
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The settings with the bridge that the host was last set up with, where they name none.
fn with_bridge(host: &HostSettings, source: &BridgeSource) -> (HostSettings, Option<Finding>) {
    let ledger = StateDir::peek_ledger(&host.state_dir).unwrap_or_default();
    match unnamed::bridge_of(&ledger, source, &host.bridge) {
        Some((bridge, finding)) => (HostSettings { bridge, ..host.clone() }, Some(finding)),
        None => (host.clone(), None),
    }
}

/// The settings with the uplinks that the agent would determine, where they name none.
async fn with_uplinks(
    kernel: &dyn Kernel,
    host: HostSettings,
) -> Result<(HostSettings, Option<Finding>), KernelError> {
    if !host.uplinks.is_empty() {
        return Ok((host, None));
    }
    let (controllers, bridge) = (&host.controllers, &host.bridge);
    Ok(match first_guess(kernel, host.table, &kernel.links().await?, controllers, bridge).await? {
        Ok(uplinks) => (HostSettings { uplinks, ..host }, None),
        Err(none) => (host, Some(none.finding())),
    })
}

/// Settings without effect, and remaining changes for earlier settings: by the agent's record, and by the same decision that
/// the agent makes when it starts. That no uplink is determined is reported unless its reason is.
async fn of_settings(
    kernel: &dyn Kernel,
    host: &HostSettings,
    undetermined: Option<Finding>,
) -> anyhow::Result<Vec<Problem>> {
    let facts = findings::Facts::read(kernel, host).await?;
    let (ledger, claims) =
        match (StateDir::peek_ledger(&host.state_dir), StateDir::peek_claims(&host.state_dir)) {
            (Ok(ledger), Ok(claims)) => (ledger, claims),
            (Err(error), _) | (_, Err(error)) => return Ok(vec![unreadable(&error)]),
        };
    let docker = docker::problems(kernel, host, &claims).await?;
    let mut found = findings::of_settings(host, &claims, &facts);
    let of_paths = paths::findings(kernel, host, &claims, &facts).await?;
    found.extend(undetermined.filter(|_| of_paths.is_empty()));
    found.extend(of_paths);
    found.extend(neighbour_proxy::findings(kernel, host, &claims, &facts).await?);
    found.extend(ground::managers(kernel, host, &facts).await?);
    let bridge = (host.role == Role::Host).then_some(("bridge", host.bridge.as_str()));
    found.extend(findings::without_ipv6(bridge, &facts));
    // Without a claim an address cannot be judged: the agent may not have started yet. Without an uplink none of its settings can.
    if !claims.is_empty() && !host.uplinks.is_empty() {
        let undo = undo(&ledger, &find(kernel, &ledger).await?, &Wanted::by(host, &claims));
        found.extend(earlier::of_undo(&undo.steps));
    }
    Ok(found.into_iter().map(shown_only).chain(docker).collect())
}

/// A problem that only an operator can fix.
fn shown_only(finding: Finding) -> Problem {
    Problem { text: finding.saw, fix: finding.fix, sysctls: vec![], commands: vec![] }
}

fn unreadable(error: &StateError) -> Problem {
    Problem {
        text: error.to_string(),
        fix: "repair the state directory before the agent starts".to_owned(),
        sysctls: vec![],
        commands: vec![],
    }
}

/// Logs a warning for each problem, except those of the uplinks, which the engine reports.
///
/// # Errors
/// If the kernel cannot be read.
pub async fn warn(kernel: &dyn Kernel, host: &HostSettings) -> Result<(), KernelError> {
    let host = HostSettings { uplinks: vec![], ..host.clone() };
    for Problem { text, fix, .. } in problems(&facts(kernel, &host).await?) {
        tracing::warn!(problem = text, fix, "host check found a problem");
    }
    Ok(())
}

fn apply_fix(kernel: &dyn Kernel, problem: &Problem, out: &mut Printer) -> Result<(), KernelError> {
    for (path, value) in &problem.sysctls {
        kernel.set_sysctl(path, &value.to_string())?;
        out.line(format_args!("  done: {path} = {value}, until the next boot"));
    }
    Ok(())
}

/// Carries out commands that are safe. Returns 1 if one of them fails.
async fn carry_out(commands: &[String], out: &mut Printer) -> usize {
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        let done = output(words[0], &words[1..]).await.is_some();
        out.line(format_args!("  {}: {command}", if done { "done" } else { "failed" }));
        if !done {
            return 1;
        }
    }
    0
}

async fn facts(kernel: &dyn Kernel, host: &HostSettings) -> Result<Facts, KernelError> {
    let links = kernel.links().await?;
    let routes = kernel.routes(Scope::Table(host.table)).await?;
    let ours = kernel.routes(Scope::Ours).await?;
    let hops = ours.iter().filter_map(|route| match &route.target {
        RouteTarget::Via(hops) => Some(hops),
        _ => None,
    });
    let bridge = links.iter().find(|link| link.name == host.bridge).map(|bridge| bridge.index);
    Ok(Facts {
        kernel: kernel_version(),
        next_hops: hops.flatten().collect::<std::collections::BTreeSet<_>>().len(),
        containers: links.iter().filter(|link| bridge.is_some() && link.controller == bridge).count(),
        routes: routes.len(),
        gc_thresh: gc_thresh(kernel)?,
        max_size: number(kernel, "net/ipv6/route/max_size")?,
        ruleset: ruleset().await.unwrap_or_default(),
        legacy_forward: legacy_forward().await.unwrap_or_default(),
        ip6tables_judged: host.docker.is_some(),
    })
}

/// The sysctls exist in the machine's initial network namespace only.
fn gc_thresh(kernel: &dyn Kernel) -> Result<Option<(u64, u64)>, KernelError> {
    let sysctl = |n: u8| number(kernel, &format!("net/ipv6/neigh/default/gc_thresh{n}"));
    if let Some(sysctls) = sysctl(2)?.zip(sysctl(3)?) {
        return Ok(Some(sysctls));
    }
    Ok(kernel.neighbour_table()?.map(|table| (table.soft_limit.into(), table.limit.into())))
}

fn number(kernel: &dyn Kernel, path: &str) -> Result<Option<u64>, KernelError> {
    Ok(kernel.sysctl(path)?.and_then(|value| value.parse().ok()))
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The rules of nftables, if they can be listed.
pub(crate) async fn ruleset() -> Option<String> {
    output("nft", &["list", "ruleset"]).await
}

/// The policy of the FORWARD chain of ip6tables-legacy, which is its first line, if it can be listed.
pub(crate) async fn legacy_forward() -> Option<String> {
    let rules = output("ip6tables-legacy", &["-S", "FORWARD"]).await?;
    Some(rules.lines().take(1).collect())
}

/// The output of a program; none if it is missing, fails, or takes too long.
async fn output(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true);
    match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => None,
    }
}

/// Whether this is the network namespace of process 1. A container or a test must not change the machine's limits.
fn in_initial_namespace() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    namespace("self").is_some() && namespace("self") == namespace("1")
}
