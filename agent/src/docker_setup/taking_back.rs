//! `--undo`: gives files the bytes that they had before the first setup.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use sextant_docker_setup::{
    agent_toml::AgentToml,
    daemon_json::DaemonJson,
    drop_in::DropIn,
    ipam::{SOCKET_UNIT, Whole},
    plan::{self, FIXED_CIDR},
    record::{self, Edit, Edited},
};
use sextant_proto::Prefix;
use sextant_streams::Printer;

use super::{
    facts::{self, DROP_IN, SOCKET_UNIT_FILE, SPEC},
    systemd::{self, AGENT, DOCKER},
};
use crate::{settings::DockerSetup, state::StateDir};

/// Restores all files, and removes what Docker has left of the host's prefix; or only shows that.
///
/// # Errors
/// If a file cannot be restored; the others are.
pub async fn run(setup: &DockerSetup, dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut out = Printer::stdout();
    let earlier = earlier(setup);
    let (mut left, mut failed, mut all) = (Vec::new(), Vec::new(), 0);
    for (path, edit, after) in files(setup) {
        if path == Path::new(SOCKET_UNIT_FILE) && !dry_run && record::record_path(path).exists() {
            disable().await?.iter().for_each(|line| out.line(line));
        }
        let undone = match dry_run {
            true => record::preview_undo(path, edit.as_ref()),
            false => record::undo(path, edit.as_ref()),
        };
        match undone {
            Ok(None) => continue,
            Ok(Some(edited)) => {
                out.line(text(path, &edited, dry_run));
                let due = after.filter(|unit| edited.is_change() && !left.contains(unit));
                left.extend(due);
            }
            Err(error) => failed.push(error.to_string()),
        }
        all += 1;
    }
    let Left { removed, later } = remove_left(setup, &earlier, dry_run).await?;
    removed.iter().for_each(|line| out.line(line));
    if all == 0 && removed.is_empty() {
        out.line("nothing to undo");
    }
    for unit in left {
        let restart = match systemd::unit(unit).await? {
            Some(_) => format!("systemctl daemon-reload && systemctl restart {unit}"),
            None => format!("restart {}", if unit == DOCKER { "Docker" } else { "the agent" }),
        };
        let again = if unit == DOCKER && later { AGAIN } else { "" };
        out.line(format_args!("left to do: {restart}{again}"));
    }
    out.finish().context("standard output")?;
    anyhow::ensure!(failed.is_empty(), failed.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// Engines up to 26 leave routes of their former prefix.
const AGAIN: &str = ", and then run this command again: it removes what Docker leaves of the prefix";

/// What is left on Docker's bridge.
struct Left {
    /// What was removed, or would be.
    removed: Vec<String>,
    /// Docker still has the prefix: its route goes after a restart.
    later: bool,
}

/// The prefixes that Docker may have had by a setup: those of the claims' pools, and the one in its file.
fn earlier(setup: &DockerSetup) -> Vec<Prefix> {
    let claims = StateDir::peek_claims(&setup.state_dir).unwrap_or_default();
    let fixed = facts::document(&setup.docker.daemon_json).ok();
    let fixed = fixed.and_then(|document| document.value(FIXED_CIDR)?.as_str()?.parse().ok());
    claims.iter().map(|claim| claim.pool.prefix).chain(fixed).collect()
}

async fn remove_left(setup: &DockerSetup, earlier: &[Prefix], dry_run: bool) -> anyhow::Result<Left> {
    let engine = facts::engine(setup).await?;
    let later = engine.network.is_some_and(|network| earlier.iter().any(|it| it.covers(network)));
    let (bridge, mut removed) = (setup.bridge.as_str(), Vec::new());
    for route in plan::left(earlier, &engine) {
        if !dry_run {
            let route = route.to_string();
            systemd::succeed(&["ip", "-6", "route", "del", &route, "dev", bridge, "proto", "boot"]).await?;
        }
        let would = if dry_run { "would be " } else { "" };
        removed.push(format!("route {route} {would}removed from {bridge}: Docker left it"));
    }
    Ok(Left { removed, later })
}

/// The files that a setup may have edited, each with the unit that is to be restarted.
fn files(setup: &DockerSetup) -> [(&Path, Box<dyn Edit>, Option<&'static str>); 5] {
    let [(spec, spec_edit), (unit, unit_edit)] = driver_files(&setup.docker.ipam_socket);
    [
        (&setup.docker.daemon_json, Box::new(DaemonJson(vec![])), Some(DOCKER)),
        (&setup.config, Box::new(AgentToml { mode: "off" }), Some(AGENT)),
        (Path::new(DROP_IN), Box::new(DropIn { group: String::new() }), Some(AGENT)),
        (spec, Box::new(spec_edit), None),
        (unit, Box::new(unit_edit), Some(AGENT)),
    ]
}

/// The files of the IPAM driver with this socket.
pub fn driver_files(socket: &Path) -> [(&'static Path, Whole); 2] {
    [(Path::new(SPEC), Whole::spec(socket)), (Path::new(SOCKET_UNIT_FILE), Whole::unit(socket))]
}

/// Restores one of the files. Returns what was done.
///
/// # Errors
/// If it cannot be restored.
pub async fn one(setup: &DockerSetup, file: &Path) -> anyhow::Result<Vec<String>> {
    let all = files(setup);
    let Some((path, edit, _)) = all.iter().find(|(path, ..)| *path == file) else { return Ok(Vec::new()) };
    let undone = record::undo(path, edit.as_ref())?;
    if file == Path::new(SOCKET_UNIT_FILE) && systemd::unit(AGENT).await?.is_some() {
        systemd::succeed(&["systemctl", "daemon-reload"]).await?;
    }
    Ok(undone.map(|edited| text(file, &edited, false)).into_iter().collect())
}

/// Ends the IPAM driver's socket, before the file of its unit goes.
pub async fn disable() -> anyhow::Result<Vec<String>> {
    if systemd::unit(SOCKET_UNIT).await?.is_none() {
        return Ok(Vec::new());
    }
    systemd::succeed(&["systemctl", "disable", "--now", SOCKET_UNIT]).await?;
    Ok(vec![format!("{SOCKET_UNIT} disabled")])
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
