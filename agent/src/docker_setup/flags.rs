//! The flags of the running engine.

use std::{fs, path::Path};

use tokio::net::UnixStream;

/// The name of the engine's process.
const PROCESS: &str = "dockerd";

/// The words of the command that started the engine at `socket`; none if that is not known, e.g. because systemd made the socket and
/// names no main process.
pub async fn of_engine(socket: &Path, main_pid: Option<&str>) -> Vec<String> {
    let listening = UnixStream::connect(socket).await.and_then(|stream| stream.peer_cred());
    let listening = listening.ok().and_then(|peer| peer.pid()).map(|pid| pid.to_string());
    let mut pids = listening.iter().map(String::as_str).chain(main_pid);
    pids.find_map(words).unwrap_or_default()
}

/// The words of a process, if it is an engine.
fn words(pid: &str) -> Option<Vec<String>> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    (name.trim() == PROCESS).then(|| line.split('\0').map(str::to_owned).collect())
}
