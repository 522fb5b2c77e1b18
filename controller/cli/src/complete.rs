//! Manual pages, and completions: the script that a shell loads.
//!
//! The script runs `sextant` with `COMPLETE=SHELL` in its environment for each completion, which asks the controllers for [names].
//!
//! [names]: crate::names

use std::path::Path;

use clap::CommandFactory;
use clap_complete::{CompleteEnv, Shell, env::Shells};
use sextant_manual::{SHELLS, Section, WriteError};

use crate::{args::CommandLine, failure::Failure, show};

/// The variable that asks for completions.
const VARIABLE: &str = "COMPLETE";
const PROGRAM: &str = "sextant";

/// Answers a shell that asks for completions, and ends the program. Returns if none asks.
pub fn complete() {
    CompleteEnv::with_factory(CommandLine::command).var(VARIABLE).bin(PROGRAM).complete();
}

/// Writes the script for a shell to standard output.
pub(crate) fn script(shell: Shell) -> Result<(), Failure> {
    show::write(&script_of(shell)?)
}

/// Writes manual pages and completions below a share directory.
pub(crate) fn manual(share: &Path) -> Result<(), Failure> {
    let failed = |error: WriteError| Failure::Failed(error.to_string());
    sextant_manual::write_pages(CommandLine::command(), Section::User, share).map_err(failed)?;
    SHELLS.into_iter().try_for_each(|shell| {
        sextant_manual::write_script(shell, PROGRAM, &script_of(shell)?, share).map_err(failed)
    })
}

fn script_of(shell: Shell) -> Result<Vec<u8>, Failure> {
    let shells = Shells::builtins();
    let completer = shells
        .completer(&shell.to_string())
        .ok_or_else(|| Failure::Usage(format!("there are no completions for {shell}")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(script)
}
