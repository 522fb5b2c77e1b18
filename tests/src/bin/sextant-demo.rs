//! Shows Sextant at work; `deploy/demo` builds and runs it.

use std::process::ExitCode;

use clap::Parser;
use sextant_tests::demo;

fn main() -> ExitCode {
    demo::main(&demo::Options::parse())
}
