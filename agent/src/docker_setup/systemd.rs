//! The edge to systemd: its units, by `systemctl`.

use std::{collections::BTreeMap, io, time::Duration};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// An engine with many containers takes its time to stop.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Docker's unit.
pub const DOCKER: &str = "docker.service";
/// The agent's unit.
pub const AGENT: &str = "sextant-agent.service";

/// Properties of a unit that systemd has loaded; none if there is no such unit, or no systemd.
///
/// # Errors
/// If it does not answer.
pub async fn unit(name: &str) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let properties =
        "--property=LoadState,MainPID,User,Group,SupplementaryGroups,FragmentPath,UnitFileState,ActiveState";
    let Some(output) = output(&["systemctl", "show", name, properties]).await? else { return Ok(None) };
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let unit: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(Some(unit).filter(|unit| unit.get("LoadState").is_some_and(|state| state == "loaded")))
}

/// Restarts a unit, with its files read again.
///
/// # Errors
/// If it does not start.
pub async fn restart(name: &str) -> anyhow::Result<()> {
    succeed(&["systemctl", "daemon-reload"]).await?;
    succeed(&["systemctl", "restart", name]).await
}

/// Runs a command.
///
/// # Errors
/// If it fails; with its standard error.
pub async fn succeed(words: &[&str]) -> anyhow::Result<()> {
    let line = words.join(" ");
    let output = output(words).await?.with_context(|| format!("{line}: there is no such program"))?;
    ensure!(
        output.status.success(),
        "{line}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// What a command comes to; none if there is no such program.
pub async fn output(words: &[&str]) -> anyhow::Result<Option<std::process::Output>> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).kill_on_drop(true);
    let ran = tokio::time::timeout(TIMEOUT, command.output()).await;
    match ran.with_context(|| format!("{}: no end within {} s", words.join(" "), TIMEOUT.as_secs()))? {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        output => Ok(Some(output.with_context(|| words.join(" "))?)),
    }
}
