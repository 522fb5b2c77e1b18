//! `sextant-agent docker setup`: gives this host's Docker the host's prefix. It runs as root, by the operator's word or by
//! systemd, because the agent itself may edit neither Docker's files nor its own.
//!
//! `sextant_docker_setup` decides what is to be done; this module reads the host ([`facts`]), does it ([`carry_out`]), and says so.

mod carry_out;
mod facts;
mod flags;
mod systemd;
mod taking_back;

use std::process::ExitCode;

use anyhow::Context;
use sextant_docker_setup::{
    record,
    steps::{Situation, Step, Todo, todo},
};
use sextant_streams::Printer;

use self::carry_out::carry_out;
pub(crate) use self::facts::{group_that_is_missing, read_bridge, seen_of};
use crate::settings::{DockerMode, DockerSetup};

/// Sets the host up, or only shows how, on standard output. Prefixes that change meanwhile are set up too: systemd, which starts this when
/// the agent writes them, does not look at the file while it runs, and Docker's restart takes its time.
///
/// # Errors
/// If it cannot be done. Steps that were done before stay, and are shown.
pub async fn run(setup: &DockerSetup, dry_run: bool, restart: bool) -> anyhow::Result<ExitCode> {
    check_root()?;
    let mut out = Printer::stdout();
    loop {
        let host = facts::situation(setup, restart).await?;
        once(setup, &host, dry_run, &mut out).await?;
        let changed = facts::prefixes(&setup.state_dir).is_ok_and(|now| now != host.prefixes);
        if dry_run || !changed {
            break;
        }
        out.line("the prefixes have changed meanwhile; once more");
    }
    out.finish().context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Does what this situation needs.
async fn once(setup: &DockerSetup, host: &Situation, dry_run: bool, out: &mut Printer) -> anyhow::Result<()> {
    let Todo { steps, left } = todo(host)?;
    check_edits(&steps)?;
    let (mode, prefixes) = (setup.docker.mode, &host.prefixes);
    let own = match mode {
        DockerMode::Ipam => format!("host prefix {}", prefixes.host),
        _ => format!("container prefix {}", prefixes.container),
    };
    out.line(format_args!("mode {}: {own}", mode.name()));
    if steps.is_empty() && left.is_empty() {
        out.line("nothing to do");
    }
    if !steps.is_empty() {
        out.line(if dry_run { "would be done:" } else { "to do:" });
    }
    for step in &steps {
        out.line(format_args!("  {step}"));
    }
    if !dry_run {
        for step in &steps {
            for line in carry_out(step, setup, host).await? {
                out.line(format_args!("done: {line}"));
            }
        }
    }
    for step in &left {
        out.line(format_args!("left to do: {step}"));
    }
    Ok(())
}

/// Takes earlier setups back, or only shows how, on standard output.
///
/// # Errors
/// If a file cannot be restored.
pub async fn undo(setup: &DockerSetup, dry_run: bool) -> anyhow::Result<ExitCode> {
    check_root()?;
    taking_back::run(setup, dry_run).await
}

/// No step is done if a later one would be refused.
fn check_edits(steps: &[Step]) -> anyhow::Result<()> {
    for (path, edit) in steps.iter().filter_map(carry_out::edit) {
        record::preview(path, edit.as_ref())?;
    }
    Ok(())
}

fn check_root() -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "docker setup edits Docker's files; run it as root");
    Ok(())
}
