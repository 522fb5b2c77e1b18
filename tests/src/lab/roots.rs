//! Root directories of other Debian releases, made by debootstrap. They are kept for the next run.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// Where they are.
const ROOTS: &str = "/var/cache/sextant-engines";

/// The root directory `name` of a release, with these packages. One that was not finished is made again.
///
/// # Errors
/// If debootstrap cannot be started or fails.
pub fn debian_root(name: &str, release: &str, packages: &str) -> anyhow::Result<PathBuf> {
    let (root, partial) = (Path::new(ROOTS).join(name), Path::new(ROOTS).join(format!("{name}.partial")));
    fs::create_dir_all(ROOTS)?;
    // Of two tests that need it, one makes it.
    let lock = File::create(Path::new(ROOTS).join(format!(".{name}.lock")))?;
    lock.lock()?;
    if root.exists() {
        return Ok(root);
    }
    let _none = fs::remove_dir_all(&partial);
    let include = format!("--include={packages}");
    let made =
        Command::new("debootstrap").args(["--variant=minbase", &include, release]).arg(&partial).output();
    let made = made.context("debootstrap cannot be started; install debootstrap")?;
    ensure!(made.status.success(), "debootstrap: {}", String::from_utf8_lossy(&made.stdout));
    fs::rename(&partial, &root)?;
    Ok(root)
}
