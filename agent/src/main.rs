//! `sextant-agent`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use sextant_agent::{command::carry_out, settings::CommandLine};
use sextant_daemon::explain;
use sextant_streams::write_stderr;

/// One thread: a change wakes several short tasks in turn, and waking threads for them costs more than their work.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match carry_out(&CommandLine::parse()).await {
        Ok(code) => code,
        Err(error) => {
            write_stderr(&format!("sextant-agent: {}", explain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
