//! The same with engines of later Debian releases: root directories made by debootstrap, which are kept for the next run.

use std::{path::PathBuf, process::Command};

use sextant_tests::{SECONDS, debian_root, poll};

use crate::bed::Bed;

/// A root directory of a release, with its engine.
fn root(release: &str) -> PathBuf {
    debian_root(release, release, "docker.io,iptables").unwrap()
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
fn an_upgrade_on_the_same_data_keeps_network_and_containers() {
    let mut bed = Bed::start("docker upgraded", 2, &[]);
    let version = |bed: &Bed| bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    assert!(version(&bed).starts_with("20."), "{}", version(&bed));
    let restarted = ["--network", "sextant", "--restart", "always", "--publish", "8000:8000"];
    bed.engines[0].container("web", &restarted).unwrap();
    let other = bed.engines[1].container("other", &["--network", "sextant"]).unwrap();
    bed.engines[0].upgrade(&root("trixie")).unwrap();
    assert!(version(&bed).starts_with("26."), "{}", version(&bed));
    bed.has_network(0);
    let address = poll("the container is back", 20 * SECONDS, || {
        bed.engines[0].run(&["exec", "web", "ip", "-6", "address"])?;
        bed.engines[0].address("web")
    });
    bed.pings(0, "web", &other);
    bed.pings(1, "other", &address);
    bed.status_is_silent();
    let later = bed.engines[0].container("later", &["--network", "sextant"]).unwrap();
    bed.pings(1, "other", &later);
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
