//! Finds the commit that this is built from.
//!
//! In release builds only: in development, each commit would compile all programs anew.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

/// What the programs are made from.
const SOURCES: [&str; 5] = ["proto", "agent", "controller", "Cargo.toml", "Cargo.lock"];
/// Digits of a commit's hash that are shown.
const SHOWN: usize = 12;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SEXTANT_COMMIT");
    let version = env::var("CARGO_PKG_VERSION")?;
    let named = env::var("SEXTANT_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = match named {
        Some(commit) => Some(valid(&commit)?),
        None if env::var("PROFILE")? == "release" => of_repository(&root()?),
        None => None,
    };
    let text = commit.map_or(version.clone(), |commit| format!("{version} (commit {commit})"));
    println!("cargo:rustc-env=SEXTANT_VERSION={text}");
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

fn root() -> Result<PathBuf, Box<dyn Error>> {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    Ok(package.ancestors().nth(2).ok_or("the package is not inside of the workspace")?.to_owned())
}

/// A commit's hash as it is shown.
fn valid(commit: &str) -> Result<String, String> {
    let hexadecimal = commit.len() >= SHOWN && commit.chars().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| commit[..SHOWN].to_ascii_lowercase()).ok_or(format!(
        "SEXTANT_COMMIT=\"{commit}\" is not the hash of a commit: at least {SHOWN} hexadecimal digits"
    ))
}

/// The commit of the repository, or `None` if there is no repository, or git cannot read it.
fn of_repository(root: &Path) -> Option<String> {
    for file in ["HEAD", "logs/HEAD"] {
        println!(
            "cargo:rerun-if-changed={}",
            root.join(git(root, &["rev-parse", "--git-path", file])?).display()
        );
    }
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    let commit = valid(&git(root, &["rev-parse", "HEAD"])?).ok()?;
    let mut differs = vec!["status", "--porcelain", "--"];
    differs.extend(SOURCES);
    let changed = if git(root, &differs)?.is_empty() { "" } else { ", changed" };
    Some(format!("{commit}{changed}"))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
