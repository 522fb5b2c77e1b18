//! `sextant-agent cleanup`: takes what the agent put into this host out of it again, and nothing else (DESIGN I4).
//!
//! What that is, [`undo`](crate::host::undo) decides: routes by their protocol, everything else by the ledger in the state directory. What the
//! agent remembers of itself, its node id and claim, stays: a new start goes on where this one ended.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, anyhow};

use crate::{
    host::{
        Wanted,
        apply::{apply, find},
        privilege,
        undo::{Kept, Step, Undo, undo},
    },
    kernel::{Kernel, KernelError, NetlinkKernel},
    state::{Ledger, StateDir, StateError},
};

/// So many routes are named; of more, how many.
const NAMED: usize = 20;
/// How often what is there is looked at anew: a route may hide behind another of the same key.
const ROUNDS: usize = 5;

/// Undoes it, or only says what would be, and tells so on standard output. Fails if something must stay for now.
///
/// # Errors
/// If an agent runs on the state directory, or the kernel refuses.
pub async fn run(state_dir: &Path, dry_run: bool) -> anyhow::Result<ExitCode> {
    privilege::check()?;
    let kernel = NetlinkKernel::open()?;
    let mut out = io::stdout().lock();
    if dry_run {
        let undo = undo_of(&kernel, &StateDir::peek_ledger(state_dir)?).await?;
        if !undo.steps.is_empty() {
            writeln!(out, "would be undone:")?;
        }
        return tell(&mut out, &undo, "nothing would be undone").context("standard output");
    }
    let state = open(state_dir)?;
    if state.is_none() {
        writeln!(out, "no state directory {}: only routes are known to be Sextant's", state_dir.display())?;
    }
    let ledger = state.as_ref().map(StateDir::ledger).transpose()?.unwrap_or_default();
    let told = carry_out(&kernel, &ledger).await?;
    if let Some(state) = state {
        state.keep_ledger(&told.left)?;
    }
    tell(&mut out, &told, "nothing to undo").context("standard output")
}

/// The directory, if there is one.
fn open(state_dir: &Path) -> anyhow::Result<Option<StateDir>> {
    if !state_dir.exists() {
        return Ok(None);
    }
    match StateDir::open(state_dir) {
        Err(StateError::InUse(path)) => Err(anyhow!(
            "an agent runs on the state directory {}, and would put everything back; stop it first (e.g. systemctl stop \
             sextant-agent). --dry-run says what would be undone",
            path.display()
        )),
        opened => Ok(Some(opened?)),
    }
}

/// Nothing is wanted any more.
async fn undo_of(kernel: &dyn Kernel, ledger: &Ledger) -> Result<Undo, KernelError> {
    Ok(undo(ledger, &find(kernel, ledger).await?, &Wanted::default()))
}

/// Does it, until there is nothing more to do; what was done, and what stays.
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
        "something puts back what is undone; {ROUNDS} times it was there again. Is another agent running?"
    ))
}

fn tell(out: &mut impl Write, undo: &Undo, nothing: &str) -> io::Result<ExitCode> {
    if undo.steps.is_empty() && undo.kept.is_empty() {
        writeln!(out, "{nothing}")?;
    }
    let is_route = |step: &&Step| matches!(step, Step::Route(_));
    let routes = undo.steps.iter().filter(is_route).count();
    for step in undo.steps.iter().filter(|step| !is_route(step)) {
        writeln!(out, "{step}")?;
    }
    for step in undo.steps.iter().filter(is_route).take(NAMED) {
        writeln!(out, "{step}")?;
    }
    if routes > NAMED {
        writeln!(out, "… and {} more routes", routes - NAMED)?;
    }
    for kept in &undo.kept {
        writeln!(out, "{kept}")?;
    }
    let unfinished = undo.kept.iter().any(Kept::is_ours);
    Ok(if unfinished { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Change, OwnRoute, RouteKey, RouteTarget, fake::FakeKernel};

    #[tokio::test]
    async fn what_is_undone_once_is_undone() {
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
        tell(&mut out, &undo, "").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 21);
        assert!(text.ends_with("… and 5 more routes\n"), "{text}");
    }
}
