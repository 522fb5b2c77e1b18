//! Benchmarks by name; `tests/bench` builds and runs it.

use std::process::ExitCode;

use sextant_tests::{
    bench,
    catalogue::{self, Entry},
};

const ENTRIES: &[Entry] = &[
    Entry {
        name: "claims",
        about: "claims per second on both stores beside etcd's own rate, and a controller with many nodes [--nodes N]",
        run: bench::claims::run,
    },
    Entry {
        name: "join",
        about: "how soon a host that joins is in its peers' kernels [--hosts N] [--rounds N] [--store KIND]",
        run: bench::join::run,
    },
];

fn main() -> ExitCode {
    catalogue::main("benchmark", ENTRIES)
}
