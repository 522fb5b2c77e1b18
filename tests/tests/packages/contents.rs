//! What the packages hold.

use std::{io::Read, process::Command};

use crate::built::{NAMES, Packages, run};

#[test]
fn lintian_has_nothing_to_say() {
    let packages = NAMES.map(|name| Packages::present().path(name));
    let output = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"])
        .args(packages)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_version_has_the_commit_and_is_later_than_earlier_ones() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git =
        |args: &[&str]| run(Command::new("git").args(["-C", root, "-c", "safe.directory=*"]).args(args));
    let head = git(&["rev-parse", "--short=12", "HEAD"]);
    for name in NAMES {
        let version = Packages::present().field(name, "Version");
        assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), "~git20")), "{version}");
        assert!(version.ends_with(head.trim()), "{version}: the commit is {head}");
    }
}

#[test]
fn programs_units_and_settings_are_in_their_places() {
    let files =
        |name: &str| run(Command::new("dpkg-deb").arg("--contents").arg(Packages::present().path(name)));
    for (name, expected) in [
        ("sextant", &["usr/bin/sextant", "usr/share/man/man1/sextant-node-drain.1.gz"][..]),
        (
            "sextant-agent",
            &[
                "usr/bin/sextant-agent",
                "lib/systemd/system/sextant-agent.service",
                "lib/systemd/system/sextant-agent-prepare.service",
                "etc/sextant/agent.toml",
                "etc/iproute2/rt_protos.d/sextant.conf",
                "usr/lib/systemd/networkd.conf.d/sextant.conf",
                "usr/lib/NetworkManager/conf.d/sextant.conf",
                "usr/share/man/man8/sextant-agent.8.gz",
            ],
        ),
        (
            "sextant-controller",
            &[
                "usr/bin/sextant-controller",
                "lib/systemd/system/sextant-controller.service",
                "etc/sextant/controller.toml",
                "usr/share/bash-completion/completions/sextant-controller",
            ],
        ),
    ] {
        let files = files(name);
        for file in expected {
            assert!(files.contains(&format!(" ./{file}\n")), "{name} has no {file}:\n{files}");
        }
        assert!(!files.contains("usr/local"), "{files}");
    }
}

/// Each library of a program with its license, and the texts that the library ships.
#[test]
fn the_licenses_of_the_libraries_are_in_the_packages() {
    for (name, libraries) in [
        ("sextant", &["clap", "rustls", "tonic"][..]),
        ("sextant-agent", &["bollard", "netlink-packet-route", "ring"]),
        ("sextant-controller", &["etcd-client", "redb", "x509-parser"]),
    ] {
        let tar =
            run_octets(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(Packages::present().path(name)));
        let member = format!("./usr/share/doc/{name}/libraries.gz");
        let text = extract(&tar, &member);
        for library in libraries {
            let entry = text.split(&"-".repeat(64)).find(|entry| entry.starts_with(&format!("\n{library} ")));
            let entry = entry.unwrap_or_else(|| panic!("{name}: no {library}"));
            assert!(entry.to_lowercase().contains("licen"), "{entry}");
        }
        assert!(text.contains("Permission is hereby granted") && !text.contains("\nproptest "), "{name}");
    }
}

fn run_octets(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

/// A compressed file of an archive, as text.
fn extract(tar: &[u8], member: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("files.tar");
    std::fs::write(&archive, tar).unwrap();
    let zipped = run_octets(Command::new("tar").arg("-xOf").arg(&archive).arg(member));
    let mut zcat = Command::new("zcat");
    std::fs::write(dir.path().join("text.gz"), zipped).unwrap();
    let mut text = String::new();
    run_octets(zcat.arg(dir.path().join("text.gz"))).as_slice().read_to_string(&mut text).unwrap();
    text
}
