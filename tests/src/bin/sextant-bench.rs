//! Benchmarks by name; `tests/bench` builds and runs it.

use std::process::ExitCode;

use sextant_tests::{
    bench,
    catalogue::{self, Entry},
};

const ENTRIES: &[Entry] = &[
    Entry {
        name: "bgp",
        about: "many BGP sessions with one router; many routes from a router, against BIRD and FRR [--sessions N] [--routes N]",
        run: bench::bgp::run,
    },
    Entry {
        name: "claims",
        about: "claims per second; controller start with 100,000 nodes [--clients N] [--seconds N] [--nodes N] [--store KIND]",
        run: bench::claims::run,
    },
    Entry {
        name: "docker",
        about: "an agent that follows Docker: containers that come and go, and many events [--containers N] [--events N] [--seconds N]",
        run: bench::docker::run,
    },
    Entry {
        name: "join",
        about: "time from a host's announcement to its route in the peers' kernels [--hosts N] [--rounds N] [--store KIND] [--tls]",
        run: bench::join::run,
    },
    Entry {
        name: "idle",
        about: "memory and CPU of an idle agent with many peers [--peers N,N…] [--seconds N]",
        run: bench::idle::run,
    },
    Entry {
        name: "ndp",
        about: "answers to neighbour solicitations, against the kernel's proxy and ndppd [--rounds N] [--seconds N]",
        run: bench::ndp::run,
    },
    Entry {
        name: "routes",
        about: "time to write routes to the kernel, against other programs [--routes N,N…] [--rounds N] [--only NAME,NAME…]",
        run: bench::routes::run,
    },
];

fn main() -> ExitCode {
    catalogue::main("benchmark", ENTRIES)
}
