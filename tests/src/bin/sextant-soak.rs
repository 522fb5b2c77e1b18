//! Soak tests by name; `tests/soak` builds and runs it.

use std::process::ExitCode;

use sextant_tests::{
    catalogue::{self, Entry},
    soak,
};

const ENTRIES: &[Entry] = &[
    Entry {
        name: "claims",
        about: "claims during random faults of controllers and etcd; checks their history [--seconds N] [--seed N]",
        run: soak::claims::run,
    },
    Entry {
        name: "chaos",
        about: "random faults of routes, links, daemons and hosts; checks recovery [--minutes N] [--seed N]",
        run: soak::chaos::run,
    },
];

fn main() -> ExitCode {
    catalogue::main("soak test", ENTRIES)
}
