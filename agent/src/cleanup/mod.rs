//! `sextant-agent cleanup`: undoes the agent's changes to this host, and nothing else (DESIGN I4).
//!
//! [`undo`](crate::host::undo) identifies them: routes by their protocol, everything else by the ledger in the state
//! directory, rules of the firewall by their comment. Node id and claim are kept for the next start.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::{Context, anyhow};
use sextant_docker::firewall::tables;
use sextant_proto::counted;
use sextant_streams::Printer;

use crate::{
    host::{
        Wanted,
        apply::{apply, find},
        exclusive::Exclusive,
        privilege,
        undo::{Kept, Step, Undo, undo},
    },
    kernel::{Kernel, KernelError, NetlinkKernel},
    state::{Ledger, StateDir, StateError},
};

/// The number of routes that are listed; others are counted.
const LISTED: usize = 20;
/// The number of times the state is read again: a route may be hidden by another one of the same key.
const ROUNDS: usize = 5;

/// Undoes the changes, or only shows them, on standard output. Fails if a change cannot be undone yet.
///
/// # Errors
/// If an agent runs on the state directory or in this network namespace, or the kernel refuses.
pub async fn run(state_dir: &Path, dry_run: bool) -> anyhow::Result<ExitCode> {
    privilege::check()?;
    let kernel = NetlinkKernel::open()?;
    let mut out = Printer::stdout();
    if dry_run {
        let undo = undo_of(&kernel, &StateDir::peek_ledger(state_dir)?).await?;
        let rules = tables::made().await?;
        if !undo.steps.is_empty() || !rules.is_empty() {
            out.line("would be undone:");
        }
        return print(out, &undo, &rules, "nothing would be undone");
    }
    let state = open(state_dir)?;
    // The routes of an agent with another state directory cannot be distinguished from those of this one.
    let _alone = Exclusive::lock()?;
    if state.is_none() {
        out.line(format_args!("no state directory {}: only routes are undone", state_dir.display()));
    }
    let ledger = state.as_ref().map(StateDir::ledger).transpose()?.unwrap_or_default();
    let undone = carry_out(&kernel, &ledger).await?;
    if let Some(state) = state {
        state.keep_ledger(&undone.left)?;
    }
    let rules = tables::made().await?;
    tables::keep(None).await?;
    print(out, &undone, &rules, "nothing to undo")
}

/// The directory, if there is one.
fn open(state_dir: &Path) -> anyhow::Result<Option<StateDir>> {
    if !state_dir.exists() {
        return Ok(None);
    }
    match StateDir::open(state_dir) {
        Err(StateError::InUse(path)) => Err(anyhow!(
            "state directory {} is in use by an agent, which would make the changes again; stop it first (e.g. systemctl stop \
             sextant-agent). --dry-run only shows the changes",
            path.display()
        )),
        opened => Ok(Some(opened?)),
    }
}

/// The undo of all changes.
async fn undo_of(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Undo, KernelError> {
    Ok(undo(ledger, &find(kernel, ledger).await?, &Wanted::default()))
}

/// Undoes the changes until nothing is left to undo. Returns the steps, and the kept changes.
async fn carry_out(kernel: &dyn Kernel, ledger: &Ledger) -> anyhow::Result<Undo> {
    let mut done = Vec::new();
    for _ in 0..ROUNDS {
        let Undo { steps, kept, left } = undo_of(kernel, ledger).await?;
        if steps.is_empty() {
            return Ok(Undo { steps: done, kept, left });
        }
        apply(kernel, &steps).await?;
        done.extend(steps);
    }
    Err(anyhow!(
        "changes were made again after each of {ROUNDS} undos; check that no other agent runs on this host"
    ))
}

fn print(
    mut out: Printer<impl Write>,
    undo: &Undo,
    rules: &[String],
    nothing: &str,
) -> anyhow::Result<ExitCode> {
    if undo.steps.is_empty() && undo.kept.is_empty() && rules.is_empty() {
        out.line(nothing);
    }
    for rule in rules {
        out.line(format_args!("firewall rule {rule}"));
    }
    let is_route = |step: &&Step| matches!(step, Step::Route(_));
    let routes = undo.steps.iter().filter(is_route).count();
    for step in undo.steps.iter().filter(|step| !is_route(step)) {
        out.line(step);
    }
    for step in undo.steps.iter().filter(is_route).take(LISTED) {
        out.line(step);
    }
    if routes > LISTED {
        out.line(format_args!("… and {}", counted(routes - LISTED, "more route")));
    }
    for kept in &undo.kept {
        out.line(kept);
    }
    out.finish().context("standard output")?;
    let unfinished = undo.kept.iter().any(Kept::is_ours);
    Ok(if unfinished { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Change, OwnRoute, RouteKey, RouteTarget, fake::FakeKernel};

    #[tokio::test]
    async fn a_second_cleanup_has_nothing_to_undo() {
        let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
        let path = "net/ipv6/conf/all/forwarding".to_owned();
        kernel.put_sysctl(&path, "1");
        let key = RouteKey { table: 77, destination: "2001:db8:1::/64".parse().unwrap(), metric: 5 };
        let route = OwnRoute { key, target: RouteTarget::Unreachable };
        kernel.apply(&[Change::Add(route)]).await.unwrap();
        let before = kernel.all_routes().len();
        let ledger = Ledger { sysctls: [(path, "0".to_owned())].into(), ..Ledger::default() };
        assert_eq!(carry_out(&kernel, &ledger).await.unwrap().steps.len(), 2);
        assert_eq!(kernel.all_routes().len(), before - 1);
        kernel.take_writes();
        assert_eq!(carry_out(&kernel, &ledger).await.unwrap(), Undo::default());
        assert_eq!(kernel.writes(), []);
    }

    #[test]
    fn many_routes_are_counted() {
        let key = |n: u32| RouteKey { table: n, destination: "2001:db8:1::/64".parse().unwrap(), metric: 5 };
        let route = |n| Step::Route(OwnRoute { key: key(n), target: RouteTarget::Unreachable });
        let (mut out, undo) = (Vec::new(), Undo { steps: (1..=25).map(route).collect(), ..Undo::default() });
        print(Printer::to(&mut out), &undo, &[], "").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 21);
        assert!(text.ends_with("… and 5 more routes\n"), "{text}");
    }
}
