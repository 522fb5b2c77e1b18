//! `sextant`, the command line.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use sextant_cli::{CommandLine, complete, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    complete();
    run(CommandLine::parse()).await
}
