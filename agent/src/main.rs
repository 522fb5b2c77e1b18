//! `sextant-agent`.

use std::process::ExitCode;

use clap::Parser;
use sextant_agent::{run::run, settings::CommandLine};
use sextant_proto::daemon::explain;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&CommandLine::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sextant-agent: {}", explain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
