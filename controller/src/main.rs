//! `sextant-controller`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use sextant_controller::{command::carry_out, settings::CommandLine};
use sextant_daemon::explain;
use sextant_streams::write_stderr;

#[tokio::main]
async fn main() -> ExitCode {
    match carry_out(&CommandLine::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_stderr(&format!("sextant-controller: {}", explain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
