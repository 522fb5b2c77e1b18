//! The rate of log lines of Sextant's daemons.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
/// A daemon may write fewer lines than this in any minute.
const MAX_PER_MINUTE: usize = 100;

/// Checks that each daemon of the lab in `dir` wrote fewer than a hundred lines of level info and above in any minute.
///
/// # Errors
/// If one wrote more, with its most frequent message.
pub(super) fn check_rate(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_daemon = name.starts_with("controller-") || name.starts_with("agent-");
        if !is_daemon || !name.ends_with(".log") {
            continue;
        }
        let log = fs::read_to_string(&path).with_context(|| name.clone())?;
        let entries: Vec<_> = log.lines().filter_map(parse).collect();
        let count = busiest_minute(&entries);
        ensure!(
            count < MAX_PER_MINUTE,
            "{name}: {count} lines in a minute; most frequent: {}",
            most_frequent(&entries)
        );
    }
    Ok(())
}

/// The number of lines of level info and above in a daemon's log.
pub(super) fn count(log: &str) -> usize {
    log.lines().filter_map(parse).count()
}

/// The time since 1970 and the message of a line, if its level is logged by default.
fn parse(text: &str) -> Option<(Duration, String)> {
    let entry: Value = serde_json::from_str(text).ok()?;
    let level = entry["level"].as_str()?;
    if !matches!(level, "INFO" | "WARN" | "ERROR") {
        return None;
    }
    let at = humantime::parse_rfc3339(entry["timestamp"].as_str()?).ok()?;
    Some((at.duration_since(std::time::UNIX_EPOCH).ok()?, entry["message"].to_string()))
}

fn busiest_minute(entries: &[(Duration, String)]) -> usize {
    let within =
        |from: usize| entries[from..].iter().take_while(|(at, _)| *at < entries[from].0 + MINUTE).count();
    (0..entries.len()).map(within).max().unwrap_or_default()
}

fn most_frequent(entries: &[(Duration, String)]) -> &str {
    let count = |message: &str| entries.iter().filter(|(_, other)| other == message).count();
    entries
        .iter()
        .map(|(_, message)| message.as_str())
        .max_by_key(|message| count(message))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(second: u64, level: &str, message: &str) -> String {
        let at = humantime::format_rfc3339(std::time::UNIX_EPOCH + Duration::from_secs(second));
        format!("{{\"timestamp\":\"{at}\",\"level\":\"{level}\",\"message\":\"{message}\"}}\n")
    }

    #[test]
    fn a_flood_of_lines_is_reported_with_its_most_frequent_message() {
        let dir = std::env::temp_dir().join(format!("sextant-logs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let write = |lines: &[String]| fs::write(dir.join("agent-h1.log"), lines.concat()).unwrap();
        let spread = (0..300).map(|second| logged(second, "WARN", "again"));
        write(&spread.collect::<Vec<_>>());
        fs::write(dir.join("etcd-0.log"), "x\n".repeat(500)).unwrap();
        let quiet = check_rate(&dir);
        let burst = (0..100).map(|_| logged(7, "WARN", "again")).chain([logged(7, "INFO", "once")]);
        let debug = (0..500).map(|_| logged(7, "DEBUG", "detail"));
        write(&burst.chain(debug).collect::<Vec<_>>());
        let flood = check_rate(&dir).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        quiet.unwrap();
        assert_eq!(flood, "agent-h1.log: 101 lines in a minute; most frequent: \"again\"");
    }
}
