//! `sextant-agent`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use sextant_agent::{
    cleanup, docker_setup, doctor, join, prepare,
    run::run,
    settings::{Command, CommandLine, DockerCommand},
};
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

async fn carry_out(command_line: &CommandLine) -> anyhow::Result<ExitCode> {
    match &command_line.command {
        None => run(command_line).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Cleanup { dry_run }) => cleanup::run(&command_line.state_dir()?, *dry_run).await,
        Some(Command::Prepare) => {
            prepare::run(command_line.settings()?, &command_line.bridge_source()?).await
        }
        Some(Command::Doctor { fix }) => {
            doctor::run(&command_line.host()?, &command_line.bridge_source()?, *fix).await
        }
        Some(Command::Join { token_file }) => {
            join::run(&command_line.settings()?, token_file.as_deref()).await.map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Docker { command: DockerCommand::Setup { dry_run, undo: true, .. } }) => {
            docker_setup::undo(&command_line.docker_undo()?, *dry_run).await
        }
        Some(Command::Docker { command: DockerCommand::Setup { mode, dry_run, restart, .. } }) => {
            docker_setup::run(&command_line.docker_setup(*mode)?, *dry_run, *restart).await
        }
    }
}
