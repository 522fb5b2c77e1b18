//! The crates that a package must not compile. Each program compiles what it needs, and no more: a user of the command line
//! waits for neither a store nor a server.

use std::{path::Path, process::Command};

/// What no package below the controller needs: stores, servers, and what only daemons do.
const DAEMONS_ONLY: &[&str] = &[
    "axum",
    "etcd-client",
    "prometheus-client",
    "redb",
    "tonic-health",
    "tonic-reflection",
    "tracing-subscriber",
];

/// The crates in `forbidden` that `package` compiles, by cargo's own resolution, without the network.
fn compiled(package: &str, forbidden: &[&str]) -> Vec<String> {
    let tree = tree(package);
    let crates = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut found: Vec<_> = crates.filter(|it| forbidden.contains(it)).map(str::to_owned).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Each crate that `package` compiles on a line of its own, with its version and features.
fn tree(package: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p} {f}",
    ]);
    cargo.args(["--package", package]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    // The test may run as another user than the build, who has downloaded the crates.
    if let Some(home) = option_env!("CARGO_HOME") {
        cargo.env("CARGO_HOME", home);
    }
    let ran = cargo.output().unwrap();
    assert!(ran.status.success(), "cargo tree: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_command_line_compiles_neither_a_store_nor_a_server() {
    assert_eq!(compiled("sextant-cli", DAEMONS_ONLY), [""; 0]);
}

#[test]
fn the_backup_file_compiles_neither_a_store_nor_a_server() {
    assert_eq!(compiled("sextant-backup-file", &[DAEMONS_ONLY, &["clap", "hyper"]].concat()), [""; 0]);
}

#[test]
fn domain_types_and_messages_compile_no_transport() {
    let forbidden = [DAEMONS_ONLY, &["clap", "h2", "hyper", "nix", "sd-notify", "toml", "tower"]].concat();
    assert_eq!(compiled("sextant-proto", &forbidden), [""; 0]);
    let tonic = tree("sextant-proto");
    let tonic = tonic.lines().find(|line| line.starts_with("tonic v")).unwrap();
    assert_eq!(tonic.rsplit(' ').next(), Some("codegen"), "{tonic}");
}

#[test]
fn the_agent_compiles_no_store() {
    assert_eq!(compiled("sextant-agent", &["etcd-client", "redb", "tonic-reflection"]), [""; 0]);
}

#[test]
fn a_forbidden_crate_is_found() {
    assert_eq!(
        compiled("sextant-controller", &["redb", "etcd-client", "comfy-table"]),
        ["etcd-client", "redb"]
    );
}
