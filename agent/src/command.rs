//! Carries out a command line: runs the agent, or one of its other commands.

use std::process::ExitCode;

use clap::CommandFactory;
use sextant_manual::Section;

use crate::{
    cleanup, docker_setup, doctor, join, prepare,
    run::run,
    settings::{Command, CommandLine, DockerCommand},
};

/// Carries out a command line. Without a command, it returns when the agent has stopped.
///
/// # Errors
/// Those of the command.
pub async fn carry_out(command_line: &CommandLine) -> anyhow::Result<ExitCode> {
    match &command_line.command {
        None => run(command_line).await?,
        Some(Command::Cleanup { dry_run }) => {
            return cleanup::run(&command_line.state_dir()?, *dry_run).await;
        }
        Some(Command::Prepare) => {
            return prepare::run(command_line.settings()?, &command_line.bridge_source()?).await;
        }
        Some(Command::Doctor { fix }) => {
            return doctor::run(&command_line.host()?, &command_line.bridge_source()?, *fix).await;
        }
        Some(Command::Join { token_file }) => {
            join::run(&command_line.settings()?, token_file.as_deref()).await?;
        }
        Some(Command::Manual { share }) => {
            sextant_manual::write_pages(CommandLine::command(), Section::Administration, share)?;
            sextant_manual::write_completions(CommandLine::command(), share)?;
        }
        Some(Command::Docker { command }) => return docker(command_line, *command).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn docker(command_line: &CommandLine, command: DockerCommand) -> anyhow::Result<ExitCode> {
    match command {
        DockerCommand::Setup { dry_run, undo: true, .. } => {
            docker_setup::undo(&command_line.docker_undo()?, dry_run).await
        }
        DockerCommand::Setup { mode, dry_run, restart, .. } => {
            docker_setup::run(&command_line.docker_setup(mode)?, dry_run, restart).await
        }
    }
}
