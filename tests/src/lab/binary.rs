//! Finds the binaries that a lab runs: those of this build, which must not be older than their sources, or those of
//! an earlier version, which `tests/previous` selects and builds.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};

/// The commit of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Build {
    /// This commit.
    #[default]
    Present,
    /// An earlier version, selected and built by `tests/previous`.
    Previous,
}

impl Build {
    /// The binary of this name.
    ///
    /// # Errors
    /// If it is missing, or the present one is older than one of its source files.
    pub fn bin(self, name: &str) -> anyhow::Result<PathBuf> {
        match self {
            Self::Present => bin(name),
            Self::Previous => previous_bin(&own_dir()?, name),
        }
    }
}

/// The binary of this name in the target directory of the running test or benchmark.
///
/// # Errors
/// If it is missing, or older than one of its source files.
pub fn bin(name: &str) -> anyhow::Result<PathBuf> {
    let dir = own_dir()?;
    let path = dir.join(name);
    let built =
        modified(&path).with_context(|| format!("{} is missing; {}", path.display(), build_command(&dir)))?;
    let sources = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    if let Some(newer) = newer_source(&sources, built) {
        bail!("{} is older than {}; {}", path.display(), newer.display(), build_command(&dir));
    }
    Ok(path)
}

/// The directory of the binaries of the running test's or benchmark's build.
fn own_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().context("the test executable has no directory")?;
    // Test executables are in target/<profile>/deps, binaries one above.
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

fn previous_bin(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = dir.with_file_name("previous").join("debug").join(name);
    ensure!(path.is_file(), "{} is missing; build the previous commit with: tests/previous", path.display());
    Ok(path)
}

fn build_command(dir: &Path) -> &'static str {
    if dir.ends_with("release") {
        "build it with: cargo build --workspace --release"
    } else {
        "build it with: cargo build --workspace"
    }
}

/// The first source file that is newer than `built`. Cargo lists them in `<binary>.d`: `binary: source source …`.
fn newer_source(dependencies: &str, built: SystemTime) -> Option<PathBuf> {
    let (_, sources) = dependencies.split_once(": ")?;
    // A space in a path is written "\ ".
    let sources = sources.trim().replace("\\ ", "\0");
    let mut paths = sources.split(' ').map(|source| PathBuf::from(source.replace('\0', " ")));
    paths.find(|path| modified(path).is_ok_and(|time| time > built))
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_reported_with_the_build_command() {
        let error = format!("{:#}", bin("no-such-binary").unwrap_err());
        assert!(error.contains("no-such-binary is missing; build it with: cargo build"), "{error}");
    }

    #[test]
    fn a_missing_binary_of_the_previous_commit_is_reported_with_the_build_command() {
        let error = previous_bin(Path::new("/nonexistent/target/debug"), "sextant").unwrap_err().to_string();
        assert_eq!(
            error,
            "/nonexistent/target/previous/debug/sextant is missing; build the previous commit with: tests/previous"
        );
    }

    #[test]
    fn a_newer_source_is_found() {
        let source = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"));
        let list = format!("target/x: /nonexistent/a\\ b {}\n", source.display());
        assert_eq!(newer_source(&list, SystemTime::UNIX_EPOCH), Some(source));
        let later = SystemTime::now() + std::time::Duration::from_secs(3600);
        assert_eq!(newer_source(&list, later), None);
    }
}
