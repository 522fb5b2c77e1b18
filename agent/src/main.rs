//! `sextant-agent`.

use std::process::ExitCode;

use clap::Parser;
use sextant_agent::{run::run, settings::CommandLine};
use sextant_proto::daemon::explain;

/// One thread: a change wakes one task after the other, and waking another thread for each costs more than their work.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&CommandLine::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sextant-agent: {}", explain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
