//! `sextant-controller`.

use std::process::ExitCode;

use clap::Parser;
use sextant_controller::{run::run, settings::CommandLine};
use sextant_daemon::explain;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&CommandLine::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sextant-controller: {}", explain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
