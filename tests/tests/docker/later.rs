//! The same with engines of later Debian releases: root directories made by debootstrap, which are kept for the next run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the root directories are.
const ROOTS: &str = "/var/cache/sextant-engines";

/// A root directory of a release, with its engine. One that was not finished is made again.
fn root(release: &str) -> PathBuf {
    let (root, partial) =
        (Path::new(ROOTS).join(release), Path::new(ROOTS).join(format!("{release}.partial")));
    if root.exists() {
        return root;
    }
    fs::create_dir_all(ROOTS).unwrap();
    let _none = fs::remove_dir_all(&partial);
    let include = "--include=docker.io,iptables";
    let made =
        Command::new("debootstrap").args(["--variant=minbase", include, release]).arg(&partial).output();
    let made = made.expect("debootstrap cannot be started; install debootstrap");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    fs::rename(&partial, &root).unwrap();
    root
}

/// Runs this executable's other tests with the engine of a release.
fn all_tests_with(release: &str) {
    let done = Command::new(std::env::current_exe().unwrap())
        .env("SEXTANT_DOCKER_ROOT", root(release))
        .args(["--test-threads", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("firewall::"), "{text}");
    println!("{text}");
}

#[test]
#[ignore = "slow: makes a root directory with a later engine"]
fn docker_26() {
    all_tests_with("trixie");
}

#[test]
#[ignore = "slow: makes a root directory with a later engine"]
fn docker_28() {
    all_tests_with("testing");
}
