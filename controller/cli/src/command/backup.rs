//! `sextant backup`, `restore` and `recover`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sextant_backup_file::{Backup, Existing, FileError, write};
use sextant_proto::{
    Incarnation, NodeName, Revision,
    convert::{self, all},
    counted,
};

use crate::{
    answer::{Cluster, Unregistered},
    failure::Failure,
    global::Output,
    json,
    link::Link,
    progress::Progress,
    show::{self, Show},
    text,
};

/// `sextant backup`.
pub(crate) async fn backup(link: &mut Link, output: Output, file: &Path, force: bool) -> Result<(), Failure> {
    if !force && file.exists() {
        return Err(already_exists(file));
    }
    let progress = Progress::new("reading the store".into());
    let octets = link.backup().await?;
    drop(progress);
    let backup =
        read(&octets).map_err(|error| Failure::Failed(format!("the controller's answer {error}")))?;
    write_whole(file, &octets, force)?;
    show::print(output, &Written { file: file.to_owned(), octets: octets.len(), backup })
}

/// `sextant restore`.
pub(crate) async fn restore(link: &mut Link, output: Output, file: &Path) -> Result<(), Failure> {
    let octets = fs::read(file).map_err(|error| at(file, &error))?;
    let backup = read(&octets).map_err(|error| Failure::Usage(format!("{} {error}", file.display())))?;
    let progress = Progress::new(format!("restoring {}", counted(backup.entries.len(), "key")));
    let restored = link.restore(&octets).await?;
    drop(progress);
    let incarnation = convert::id("incarnation", &restored.incarnation)?;
    let (put, there, revision) = (restored.put, restored.there, restored.revision);
    show::print(output, &Restored { incarnation, revision, put, there })
}

/// `sextant restore --undo`.
pub(crate) async fn undo(link: &mut Link, output: Output) -> Result<(), Failure> {
    let progress = Progress::new("deleting the restored keys".into());
    let deleted = link.undo_restore().await?;
    drop(progress);
    show::print(output, &Undone(deleted))
}

/// `sextant recover`.
pub(crate) async fn recover(
    link: &mut Link,
    output: Output,
    finish: bool,
    confirm: Option<u32>,
) -> Result<(), Failure> {
    if finish {
        let finished = link.finish_recovery(confirm).await?;
        let silent = names(&finished.silent)?;
        let unregistered = all("unregistered", finished.unregistered)?;
        let was_open = finished.was_open;
        return show::print(output, &Recovery { open: false, was_open, silent, unregistered });
    }
    let cluster = link.cluster().await?;
    let open = cluster.recovering;
    let Cluster { silent, unregistered, .. } = cluster;
    show::print(output, &Recovery { open, was_open: open, silent, unregistered })
}

/// `sextant recover --accept-unsigned`.
pub(crate) async fn accept_unsigned(link: &mut Link, output: Output) -> Result<(), Failure> {
    let revision = link.accept_unsigned().await?;
    show::print(output, &UnsignedAccepted(revision))
}

fn names(texts: &[String]) -> Result<Vec<NodeName>, Failure> {
    Ok(texts.iter().map(|text| convert::parse("silent", text)).collect::<Result<_, _>>()?)
}

fn read(octets: &[u8]) -> Result<Backup, FileError> {
    Backup::decode(octets)
}

fn write_whole(file: &Path, octets: &[u8], force: bool) -> Result<(), Failure> {
    let existing = if force { Existing::Replace } else { Existing::Keep };
    write(file, octets, existing).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_exists(file),
        _ => at(file, &error),
    })
}

fn already_exists(file: &Path) -> Failure {
    Failure::Conflict(format!(
        "{} already exists; give another name, or use --force to replace it",
        file.display()
    ))
}

fn at(file: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", file.display()))
}

struct Written {
    file: PathBuf,
    octets: usize,
    backup: Backup,
}

struct Restored {
    incarnation: Incarnation,
    revision: u64,
    put: u64,
    there: u64,
}

struct Undone(u64);

struct UnsignedAccepted(Revision);

struct Recovery {
    open: bool,
    was_open: bool,
    silent: Vec<NodeName>,
    unregistered: Vec<Unregistered>,
}

impl Show for Written {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Self { file, octets, backup } = self;
        let (claims, store) = (backup.claims(), &backup.store);
        format!(
            "{}: {} of {store} at revision {}, {}\n",
            file.display(),
            counted(claims, "claim"),
            backup.revision,
            counted(*octets, "octet")
        )
    }

    fn json(&self) -> Value {
        let backup = &self.backup;
        json::value(json::BackupWritten {
            file: self.file.display().to_string(),
            octets: self.octets,
            claims: backup.claims(),
            keys: backup.entries.len(),
            incarnation: backup.incarnation,
            revision: backup.revision,
            unix_ms: backup.unix_ms,
        })
    }
}

impl Show for Restored {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Self { incarnation, put, there, .. } = self;
        format!(
            "restored: {} written, {there} already existed; the incarnation of the store is now {incarnation}\n\
             agents register again, and nothing is deleted until the recovery window closes: see `sextant recover`\n",
            counted(*put, "key")
        )
    }

    fn json(&self) -> Value {
        let Self { incarnation, revision, put, there } = *self;
        json::value(json::Restored { incarnation, revision, put, there })
    }
}

impl Show for Undone {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("restore undone: {} deleted; the store has its former content\n", counted(self.0, "key"))
    }

    fn json(&self) -> Value {
        json::value(json::Undone { deleted: self.0 })
    }
}

impl Show for UnsignedAccepted {
    fn text(&self, _now_unix_ms: u64) -> String {
        "claims without receipts count until the recovery window closes\n".into()
    }

    fn json(&self) -> Value {
        json::value(json::UnsignedAccepted { accepts_unsigned: true, revision: self.0 })
    }
}

impl Show for Recovery {
    fn text(&self, _now_unix_ms: u64) -> String {
        let silent = match self.silent.as_slice() {
            [] if self.unregistered.is_empty() => "all nodes have registered".to_owned(),
            [] => "all nodes of the store have registered".to_owned(),
            silent => format!("not registered: {}", text::some_names(silent)),
        };
        match (self.open, self.was_open) {
            (true, _) => {
                format!("the recovery window is open; {silent}\n{}", self.claims("end with the window"))
            }
            (false, true) => {
                format!("the recovery window is closed now; {silent}\n{}", self.claims("have ended"))
            }
            (false, false) => "the recovery window is closed\n".into(),
        }
    }

    fn json(&self) -> Value {
        let Self { open, was_open, silent, unregistered } = self;
        let unregistered = unregistered.iter().map(Into::into).collect();
        json::value(json::Recovery { recovering: *open, was_open: *was_open, silent, unregistered })
    }
}

impl Recovery {
    /// The claims that are not registered, a line each; `fate`: what the end of the window does to them.
    fn claims(&self, fate: &str) -> String {
        let claims = &self.unregistered;
        if claims.is_empty() {
            return String::new();
        }
        let line = |it: &Unregistered| format!("  {it}\n");
        let lines: String = claims.iter().map(line).collect();
        format!("claims of the lost store that are not registered, and {fate}:\n{lines}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    #[test]
    fn claims_that_are_not_registered_are_listed_with_the_reason() {
        let of = |open, unregistered| {
            Recovery { open, was_open: true, silent: Vec::new(), unregistered }.text(sample::NOW)
        };
        let claim = "  node host7, fd00:7::/64 (pool ula): held later by host2\n";
        assert_eq!(of(true, Vec::new()), "the recovery window is open; all nodes have registered\n");
        assert_eq!(
            of(true, sample::unregistered()),
            format!(
                "the recovery window is open; all nodes of the store have registered\n\
                 claims of the lost store that are not registered, and end with the window:\n{claim}"
            )
        );
        let closed = of(false, sample::unregistered());
        assert!(closed.contains(&format!("and have ended:\n{claim}")), "{closed}");
    }

    #[test]
    fn an_existing_file_is_a_conflict_and_a_missing_directory_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b");
        write_whole(&file, b"one", false).unwrap();
        let failure = write_whole(&file, b"two", false).unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.to_string().contains("--force"), "{failure}");
        write_whole(&file, b"two", true).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        let failure = write_whole(&dir.path().join("no/b"), b"x", false).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
    }
}
