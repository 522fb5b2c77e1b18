//! `sextant-controller`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use sextant_controller::{
    pki,
    run::run,
    settings::{Command, CommandLine},
};
use sextant_daemon::explain;
use sextant_streams::write_stderr;

#[tokio::main]
async fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let done = match &command_line.command {
        None => run(&command_line).await,
        Some(Command::Pki { command }) => pki::run(&command_line, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_stderr(&format!("sextant-controller: {}", explain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}
