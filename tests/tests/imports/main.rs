//! The order of the modules of agent, controller and command line: an import runs downwards, to a module earlier in these lists.
//!
//! A module is a folder, or a file, right below `src`. A new one is given its place in the lists below.

#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod crates;
mod dependencies;
mod modules;

use std::{fs, path::Path};

use modules::{Import, imports};

const AGENT: &[&str] = &[
    "deadline",
    "damping",
    "kernel",
    "advice",
    "settings",
    "state",
    "log_limiter",
    "problems",
    "controllers",
    "certificates",
    "join",
    "access",
    "managers",
    "cluster",
    "uplinks",
    "host",
    "docker",
    "ipam",
    "containers",
    "docker_setup",
    "docker_bridge",
    "routes",
    "liveness",
    "neighbours",
    "ndp_faults",
    "doctor",
    "cleanup",
    "engine",
    "advertise",
    "ndp",
    "bfd",
    "bgp",
    "trace",
    "session",
    "metrics",
    "inquiry",
    "prepare",
    "run",
    "command",
    "main",
];

const CONTROLLER: &[&str] = &[
    "registry",
    "keys",
    "records",
    "prefixes",
    "audit",
    "control",
    "elapsed",
    "lineage",
    "index",
    "removals",
    "refusals",
    "unregistered",
    "store",
    "denials",
    "format",
    "acks",
    "doubts",
    "ticker",
    "sweeper",
    "backup",
    "pools",
    "reservations",
    "tokens",
    "kubernetes",
    "claims",
    "receipts",
    "expiry",
    "sessions",
    "verdicts",
    "health",
    "trace",
    "limits",
    "settings",
    "connections",
    "questions",
    "controllers",
    "services",
    "grpc",
    "metrics",
    "pki",
    "run",
    "command",
    "main",
];

const CLI: &[&str] = &[
    "failure", "answer", "link", "export", "global", "names", "args", "troubles", "json", "text", "show",
    "progress", "complete", "command", "main",
];

/// Each import of a package that runs upwards, and each module that has no place.
fn upward(package: &str, order: &[&str]) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(package).join("src");
    let mut found = Vec::new();
    for file in rust_files(&src) {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(&src).unwrap();
        let all = imports(place, &text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        found.extend(all.iter().filter_map(|import| {
            Some(format!("{package}/src/{}:{}: {}", place.display(), import.line, wrong(import, order)?))
        }));
    }
    found
}

/// Why the import is not allowed.
fn wrong(Import { from, to, .. }: &Import, order: &[&str]) -> Option<String> {
    let place = |module: &str| order.iter().position(|it| *it == module);
    match (place(from), place(to)) {
        (None, _) => {
            Some(format!("module \"{from}\" is not in the order of modules; add it in tests/tests/imports"))
        }
        (_, None) => Some(format!("\"{from}\" imports \"{to}\", which is not in the order of modules")),
        (Some(own), Some(other)) => {
            (other > own).then(|| format!("\"{from}\" imports \"{to}\", which is above it"))
        }
    }
}

fn rust_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "bin") {
                found.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn imports_run_downwards_in_the_agent() {
    let found = upward("agent", AGENT);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn imports_run_downwards_in_the_controller() {
    let found = upward("controller", CONTROLLER);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn imports_run_downwards_in_the_command_line() {
    let found = upward("controller/cli", CLI);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_upward_import_is_found() {
    let of = |file: &str, text: &str| {
        let all = imports(Path::new(file), text).unwrap();
        all.iter()
            .filter_map(|import| Some((import.line, wrong(import, &["low", "high"])?)))
            .collect::<Vec<_>>()
    };
    let upwards = |line| vec![(line, "\"low\" imports \"high\", which is above it".to_owned())];
    assert_eq!(of("low.rs", "\nuse crate::high::Thing;"), upwards(2));
    assert_eq!(of("low/mod.rs", "use crate::{high, low::Other};"), upwards(1));
    assert_eq!(of("low/part.rs", "fn f() { crate::high::go() }"), upwards(1));
    assert_eq!(of("low/part.rs", "use super::super::high;"), upwards(1));
    assert_eq!(
        of("low/mod.rs", "mod tests { use super::super::high; }"),
        upwards(1),
        "a module within the file"
    );
    assert_eq!(of("low.rs", "fn f() { print!(\"{}\", crate::high::X) }"), upwards(1), "within a macro");
    assert_eq!(of("high.rs", "use crate::low; use super::low::It; use std::fmt;"), []);
    assert_eq!(of("low/part.rs", "use super::other; use self::more; fn high() {}"), [], "its own module");
    let unknown = of("low.rs", "use crate::new::Thing;");
    assert!(unknown[0].1.contains("\"new\", which is not in the order"), "{unknown:?}");
}
