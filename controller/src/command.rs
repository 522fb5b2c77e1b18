//! Carries out a command line: runs the controller, or one of its other commands.

use clap::CommandFactory;
use sextant_manual::Section;

use crate::{
    pki,
    run::run,
    settings::{Command, CommandLine},
};

/// Carries out a command line. Without a command, it returns when the controller has stopped.
///
/// # Errors
/// Those of the command.
pub async fn carry_out(command_line: &CommandLine) -> anyhow::Result<()> {
    match &command_line.command {
        None => run(command_line).await,
        Some(Command::Pki { command }) => pki::run(command_line, command),
        Some(Command::Manual { share }) => {
            sextant_manual::write_pages(CommandLine::command(), Section::Administration, share)?;
            Ok(sextant_manual::write_completions(CommandLine::command(), share)?)
        }
    }
}
