//! `--undo`: gives files the bytes that they had before the first setup.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use sextant_docker_setup::{
    agent_toml::AgentToml,
    daemon_json::DaemonJson,
    drop_in::DropIn,
    record::{self, Edit, Edited},
};
use sextant_streams::Printer;

use super::{
    facts::DROP_IN,
    systemd::{self, AGENT, DOCKER},
};
use crate::settings::DockerSetup;

/// Restores all files, or only shows which.
///
/// # Errors
/// If one cannot be restored; the others are.
pub async fn run(setup: &DockerSetup, dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut out = Printer::stdout();
    let (mut left, mut failed, mut all) = (Vec::new(), Vec::new(), 0);
    for (path, edit, after) in files(setup) {
        let undone = match dry_run {
            true => record::preview_undo(path, edit.as_ref()),
            false => record::undo(path, edit.as_ref()),
        };
        match undone {
            Ok(None) => continue,
            Ok(Some(edited)) => {
                out.line(text(path, &edited, dry_run));
                left.extend(edited.is_change().then_some(after));
            }
            Err(error) => failed.push(error.to_string()),
        }
        all += 1;
    }
    if all == 0 {
        out.line("nothing to undo");
    }
    for unit in left {
        let restart = match systemd::unit(unit).await? {
            Some(_) => format!("systemctl daemon-reload && systemctl restart {unit}"),
            None => format!("restart {}", if unit == DOCKER { "Docker" } else { "the agent" }),
        };
        out.line(format_args!("left to do: {restart}"));
    }
    out.finish().context("standard output")?;
    anyhow::ensure!(failed.is_empty(), failed.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// The files that a setup may have edited, each with the unit that reads it.
fn files(setup: &DockerSetup) -> [(&Path, Box<dyn Edit>, &'static str); 3] {
    [
        (&setup.docker.daemon_json, Box::new(DaemonJson(vec![])), DOCKER),
        (&setup.config, Box::new(AgentToml { mode: "off" }), AGENT),
        (Path::new(DROP_IN), Box::new(DropIn { group: String::new() }), AGENT),
    ]
}

fn text(path: &Path, edited: &Edited, dry_run: bool) -> String {
    let path = path.display();
    let would = if dry_run { "would be " } else { "" };
    let what = match (&edited.after, edited.is_change()) {
        (_, false) => format!("{path} is as it was before the setup"),
        (None, true) => format!("{path} {would}removed: there was none before the setup"),
        (Some(_), true) => format!("{path} {would}restored"),
    };
    let kept = if edited.changed_since { "; what others have changed in it since is kept" } else { "" };
    what + kept
}
