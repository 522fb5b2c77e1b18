//! The edge to the firewall: `ip6tables` of this host, which is the engine's too.

use std::{io, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Table, changes, is_ours,
    policy::{Passes, Rules},
    prepared, tracked,
};

/// Why the firewall could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The program fails.
    #[error("{command}: {error}")]
    Failed {
        /// Its name and arguments.
        command: String,
        /// What it says.
        error: String,
    },
}

/// What was found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// The tables that were changed.
    pub changed: usize,
    /// The engine has rules in one of them, or the policy needs some.
    pub rules: bool,
}

/// Puts the rules of the policy there; without `passes`, removes them. A host without the program has no engine that uses it.
///
/// # Errors
/// If a table cannot be read or changed.
pub async fn keep(passes: Option<&Passes>) -> Result<Kept, TablesError> {
    let mut kept = Kept::default();
    for table in Table::ALL {
        let name = table.name();
        let Some(text) = run(&["ip6tables", "-w", "5", "-t", name, "-S"], None).await? else {
            return missing(passes).map_or(Ok(kept), Err);
        };
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        kept.rules |= table.is_engines(&lines) || table.wanted(&lines, passes) != Rules::default();
        let changes = changes(table, &lines, passes);
        if changes.is_empty() {
            continue;
        }
        change(table, &changes).await?;
        kept.changed += 1;
    }
    Ok(kept)
}

/// Puts the rules of the policy there before the engine starts. A host without the program has no engine that uses it.
///
/// # Errors
/// If a table cannot be read or changed.
pub async fn prepare(passes: &Passes) -> Result<(), TablesError> {
    for table in Table::ALL {
        let name = table.name();
        let Some(text) = run(&["ip6tables", "-w", "5", "-t", name, "-S"], None).await? else {
            return missing(Some(passes)).map_or(Ok(()), Err);
        };
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let prepared = change(table, &prepared(table, &lines, passes)).await;
        match (prepared, table) {
            // A kernel without the target CT tracks all connections.
            (Err(error), Table::Raw) => {
                tracing::warn!(%error, "connections are tracked; Docker may replace sources until the agent runs");
                change(table, &tracked(&lines, passes)).await?;
            }
            (done, _) => done?,
        }
    }
    Ok(())
}

/// Makes changes to a table.
async fn change(table: Table, changes: &[String]) -> Result<(), TablesError> {
    if changes.is_empty() {
        return Ok(());
    }
    let batch = format!("*{}\n{}\nCOMMIT\n", table.name(), changes.join("\n"));
    run(&["ip6tables-restore", "-w", "5", "--noflush"], Some(&batch)).await.map(drop)
}

/// The rules that [`keep`] would make, and that are not there: each with its table. None on a host without the program.
///
/// # Errors
/// If a table cannot be read.
pub async fn lacking(passes: &Passes) -> Result<Vec<String>, TablesError> {
    let mut missing = Vec::new();
    for table in Table::ALL {
        let name = table.name();
        let Some(text) = run(&["ip6tables", "-w", "5", "-t", name, "-S"], None).await? else { break };
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        missing.extend(
            super::missing(table, &lines, passes).into_iter().map(|rule| format!("-t {name} {rule}")),
        );
    }
    Ok(missing)
}

/// The rules that [`keep`] has made, as `ip6tables -S` shows them.
///
/// # Errors
/// If a table cannot be read.
pub async fn made() -> Result<Vec<String>, TablesError> {
    let mut made = Vec::new();
    for table in Table::ALL {
        let Some(text) = run(&["ip6tables", "-w", "5", "-t", table.name(), "-S"], None).await? else { break };
        made.extend(
            text.lines().filter(|line| is_ours(line)).map(|line| format!("-t {} {line}", table.name())),
        );
    }
    Ok(made)
}

/// The error of a host without the program whose policy needs it.
fn missing(passes: Option<&Passes>) -> Option<TablesError> {
    let needs = passes?.rules(Table::Filter, false) != Rules::default();
    needs.then(|| TablesError::Failed {
        command: "ip6tables".into(),
        error: "no such program, so packets from outside the cluster reach all ports of containers".into(),
    })
}

/// Whether the program is the one whose rules are of nf_tables.
pub async fn are_of_nf_tables() -> bool {
    let version = run(&["ip6tables", "-V"], None).await;
    version.ok().flatten().is_some_and(|version| version.contains("nf_tables"))
}

/// All rules of the host, as `ip6tables-save` lists them; `None` if there is no such program.
///
/// # Errors
/// If it fails.
pub async fn saved() -> Result<Option<String>, TablesError> {
    run(&["ip6tables-save"], None).await
}

/// The output of a command; `None` if there is no such program.
async fn run(args: &[&str], input: Option<&str>) -> Result<Option<String>, TablesError> {
    let failed = |error: String| TablesError::Failed { command: args.join(" "), error };
    let mut command = Command::new(args[0]);
    command.args(&args[1..]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        child => child.map_err(|error| failed(error.to_string()))?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        let written = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
        written.map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}
