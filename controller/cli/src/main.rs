//! `sextant`, the command line.

use std::process::ExitCode;

use clap::Parser;
use sextant_cli::{CommandLine, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(CommandLine::parse()).await
}
