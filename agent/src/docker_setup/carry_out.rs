//! Does the steps.

use std::{path::Path, time::Duration};

use anyhow::Context;
use sextant_docker::engine::Engine;
use sextant_docker_setup::{
    agent_toml::AgentToml,
    daemon_json::DaemonJson,
    drop_in::DropIn,
    ipam::Whole,
    record::{self, Edit},
    steps::{LISTEN, Situation, Step},
};
use tokio::time::Instant;

use super::{
    facts,
    systemd::{self, AGENT, DOCKER},
    taking_back,
};
use crate::settings::DockerSetup;

/// How long an engine may take to answer after its start.
const STARTS: Duration = Duration::from_secs(60);
/// How soon it is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The edit of a file that a step is.
pub fn edit(step: &Step) -> Option<(&Path, Box<dyn Edit>)> {
    match step {
        Step::Write { file, keys } => Some((file, Box::new(DaemonJson(keys.clone())))),
        Step::Mode { file, mode } => Some((file, Box::new(AgentToml { mode }))),
        Step::Group { file, group } => Some((file, Box::new(DropIn { group: group.clone() }))),
        Step::Spec { file, socket } => Some((file, Box::new(Whole::spec(socket)))),
        Step::SocketUnit { file, socket } => Some((file, Box::new(Whole::unit(socket)))),
        Step::RemoveStale { .. }
        | Step::RestartEngine
        | Step::Listen
        | Step::TakeBack { .. }
        | Step::Unlisten
        | Step::RestartAgent => None,
    }
}

/// Does a step. Returns what was done.
///
/// # Errors
/// If it fails.
pub async fn carry_out(step: &Step, setup: &DockerSetup, host: &Situation) -> anyhow::Result<Vec<String>> {
    if let Some((path, edit)) = edit(step) {
        record::edit(path, edit.as_ref())?;
        let undone = record::preview_undo(path, edit.as_ref())?;
        let was_none = undone.is_some_and(|undone| undone.after.is_none());
        let undo = if was_none { "removes it" } else { "restores the one before" };
        return Ok(vec![format!("{} written; --undo {undo}", path.display())]);
    }
    match step {
        Step::RestartEngine => {
            systemd::restart(DOCKER).await.context("see `journalctl -u docker`")?;
            answers(&setup.docker.socket).await?;
            let removed = remove_stale(setup, host).await?;
            Ok([vec!["Docker restarted".to_owned()], removed].concat())
        }
        Step::Listen => {
            for command in LISTEN {
                let words: Vec<_> = command.split(' ').collect();
                systemd::succeed(&words).await.context("see `journalctl -u sextant-docker-ipam.socket`")?;
            }
            Ok(vec!["systemd listens at the socket of the IPAM driver; agent restarted".to_owned()])
        }
        Step::TakeBack { file } => taking_back::one(setup, file).await,
        Step::Unlisten => taking_back::disable().await,
        Step::RestartAgent => {
            systemd::restart(AGENT).await.context("see `journalctl -u sextant-agent`")?;
            Ok(vec!["agent restarted".to_owned()])
        }
        _ => remove_stale(setup, host).await,
    }
}

/// Removes what an earlier prefix has left on the default bridge by now.
async fn remove_stale(setup: &DockerSetup, host: &Situation) -> anyhow::Result<Vec<String>> {
    let stale = host.stale(&facts::engine(setup).await?);
    let (bridge, mut removed) = (setup.bridge.as_str(), Vec::new());
    for (addr, len) in stale.addresses {
        let address = format!("{addr}/{len}");
        systemd::succeed(&["ip", "-6", "address", "del", &address, "dev", bridge]).await?;
        removed.push(format!("address {address} removed from {bridge}"));
    }
    for route in stale.routes.iter().map(ToString::to_string) {
        systemd::succeed(&["ip", "-6", "route", "del", &route, "dev", bridge, "proto", "boot"]).await?;
        removed.push(format!("route {route} removed from {bridge}"));
    }
    Ok(removed)
}

/// Waits until the engine answers.
async fn answers(socket: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + STARTS;
    loop {
        let error = match Engine::connect(socket).await {
            Ok(engine) => match engine.version().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            let socket = socket.display();
            return Err(error)
                .with_context(|| format!("Docker does not answer at {socket}; see `journalctl -u docker`"));
        }
        tokio::time::sleep(RETRY).await;
    }
}
