//! How much Sextant's daemons have to say.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
/// How many lines a daemon may write in any minute.
const MOST: usize = 100;

/// No daemon of the lab in `dir` has written a hundred lines or more, of level info and above, in any minute.
///
/// # Errors
/// If one has, with what it has said most.
pub(super) fn are_quiet(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_a_daemon = name.starts_with("controller-") || name.starts_with("agent-");
        if !of_a_daemon || !name.ends_with(".log") {
            continue;
        }
        let log = fs::read_to_string(&path).with_context(|| name.clone())?;
        let said: Vec<_> = log.lines().filter_map(line).collect();
        let most = busiest_minute(&said);
        ensure!(most < MOST, "{name}: {most} lines in a minute, most of them {}", commonest(&said));
    }
    Ok(())
}

/// How many lines of level info and above the daemon whose log is `log` has written.
pub(super) fn count(log: &str) -> usize {
    log.lines().filter_map(line).count()
}

/// When, since 1970, and what, if it is a line that is logged by default.
fn line(text: &str) -> Option<(Duration, String)> {
    let entry: Value = serde_json::from_str(text).ok()?;
    let level = entry["level"].as_str()?;
    if !matches!(level, "INFO" | "WARN" | "ERROR") {
        return None;
    }
    let at = humantime::parse_rfc3339(entry["timestamp"].as_str()?).ok()?;
    Some((at.duration_since(std::time::UNIX_EPOCH).ok()?, entry["message"].to_string()))
}

fn busiest_minute(said: &[(Duration, String)]) -> usize {
    let within = |from: usize| said[from..].iter().take_while(|(at, _)| *at < said[from].0 + MINUTE).count();
    (0..said.len()).map(within).max().unwrap_or_default()
}

fn commonest(said: &[(Duration, String)]) -> &str {
    let count = |message: &str| said.iter().filter(|(_, other)| other == message).count();
    said.iter().map(|(_, message)| message.as_str()).max_by_key(|message| count(message)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(second: u64, level: &str, message: &str) -> String {
        let at = humantime::format_rfc3339(std::time::UNIX_EPOCH + Duration::from_secs(second));
        format!("{{\"timestamp\":\"{at}\",\"level\":\"{level}\",\"message\":\"{message}\"}}\n")
    }

    #[test]
    fn a_flood_is_found_and_named() {
        let dir = std::env::temp_dir().join(format!("sextant-logs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let write = |lines: &[String]| fs::write(dir.join("agent-h1.log"), lines.concat()).unwrap();
        let spread = (0..300).map(|second| logged(second, "WARN", "again"));
        write(&spread.collect::<Vec<_>>());
        fs::write(dir.join("etcd-0.log"), "x\n".repeat(500)).unwrap();
        let quiet = are_quiet(&dir);
        let burst = (0..100).map(|_| logged(7, "WARN", "again")).chain([logged(7, "INFO", "once")]);
        let debug = (0..500).map(|_| logged(7, "DEBUG", "detail"));
        write(&burst.chain(debug).collect::<Vec<_>>());
        let flood = are_quiet(&dir).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        quiet.unwrap();
        assert_eq!(flood, "agent-h1.log: 101 lines in a minute, most of them \"again\"");
    }
}
