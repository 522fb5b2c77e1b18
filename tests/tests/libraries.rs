//! The libraries that the programs are built from: their licenses, and those that are there in two versions.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use spdx::{Expression, LicenseReq, ParseMode};

/// Licenses whose libraries may be in the programs; their texts are in the packages (`deploy/libraries`).
const PERMITTED: &[&str] = &[
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Libraries of which the programs have two versions, since others need them so.
const TWICE: &[&str] = &["base64", "getrandom", "rand_core"];
/// Libraries that only compile, and are in no program.
const COMPILERS: &[&str] = &["syn", "synstructure"];

/// The lines of `cargo tree` about the programs, in this format.
fn tree(arguments: &[&str], format: &str) -> BTreeSet<String> {
    let packages = ["sextant-agent", "sextant-controller", "sextant-cli"];
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", format])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Why a library may not be in the programs.
fn objection(license: &str) -> Option<String> {
    let permitted = |license: &LicenseReq| {
        license.addition.is_none() && license.license.id().is_some_and(|id| PERMITTED.contains(&id.name))
    };
    match Expression::parse_mode(license, ParseMode::LAX) {
        Ok(expression) => {
            (!expression.evaluate(permitted)).then(|| format!("\"{license}\" is not permitted"))
        }
        Err(error) => Some(format!("\"{license}\": {error}")),
    }
}

#[test]
fn the_licenses_of_all_libraries_are_permitted() {
    let lines = tree(&["--edges", "normal"], "{p}|{l}");
    assert!(lines.len() > 150, "{}", lines.len());
    let found: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let (library, license) = line.split_once('|').unwrap();
            Some(format!("{library}: {}", objection(license)?))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn other_licenses_are_refused() {
    for refused in ["GPL-3.0-only", "MIT AND GPL-2.0-or-later", "", "LicenseRef-Own", "MPL-2.0"] {
        assert!(objection(refused).is_some(), "{refused}");
    }
    for permitted in ["MIT/Apache-2.0", "GPL-2.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert_eq!(objection(permitted), None, "{permitted}");
    }
}

#[test]
fn no_further_library_is_there_in_two_versions() {
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for line in tree(&["--edges", "normal"], "{p}") {
        let (name, version) = line.split_once(' ').unwrap();
        versions.entry(name.to_owned()).or_default().insert(version.split(' ').next().unwrap().to_owned());
    }
    let twice: BTreeSet<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    let names: BTreeSet<_> = twice.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, TWICE.iter().chain(COMPILERS).copied().collect(), "{twice:?}");
}
