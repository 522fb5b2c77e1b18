//! Soak tests by name; `tests/soak` builds and runs it.

use std::process::ExitCode;

use sextant_tests::{
    catalogue::{self, Entry},
    soak,
};

const ENTRIES: &[Entry] = &[
    Entry {
        name: "claims",
        about: "64 claim while controllers and members of etcd are killed and frozen [--minutes N] [--seed N]",
        run: soak::claims::run,
    },
    Entry {
        name: "hands",
        about: "careless hands on routes, links, daemons and hosts [--minutes N] [--seed N]",
        run: soak::hands::run,
    },
];

fn main() -> ExitCode {
    catalogue::main("soak test", ENTRIES)
}
