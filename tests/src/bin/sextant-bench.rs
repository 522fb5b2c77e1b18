//! Benchmarks by name; `tests/bench` builds and runs it.

use std::process::ExitCode;

use sextant_tests::{
    bench,
    catalogue::{self, Entry},
};

const ENTRIES: &[Entry] = &[
    Entry {
        name: "bgp",
        about: "many sessions with one router, and many routes from one, beside BIRD and FRR [--sessions N] [--routes N]",
        run: bench::bgp::run,
    },
    Entry {
        name: "claims",
        about: "claims a second, and a start with 100,000 nodes [--clients N] [--seconds N] [--nodes N] [--store KIND]",
        run: bench::claims::run,
    },
    Entry {
        name: "join",
        about: "how soon a host that joins is in its peers' kernels [--hosts N] [--rounds N] [--store KIND]",
        run: bench::join::run,
    },
    Entry {
        name: "idle",
        about: "what an agent with many peers takes while nothing happens [--peers N,N…] [--seconds N]",
        run: bench::idle::run,
    },
    Entry {
        name: "routes",
        about: "how fast routes get into the kernel, beside others [--routes N,N…] [--rounds N] [--only NAME,NAME…]",
        run: bench::routes::run,
    },
];

fn main() -> ExitCode {
    catalogue::main("benchmark", ENTRIES)
}
