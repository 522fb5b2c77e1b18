//! The command line `sextant` (DESIGN §8): it calls a controller, shows the answer, and exits with the code of the result.
//!
//! ```text
//! args ─► command ─► link (gRPC) ─► answer (domain types) ─► troubles ─► text | json ─► standard output
//! ```
//!
//! Only `link` knows gRPC; `answer` turns messages into domain types; `text` and `json` are pure. No task is spawned.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod args;
mod command;
mod complete;
mod export;
mod failure;
mod global;
mod json;
mod link;
mod names;
mod progress;
mod show;
mod text;
mod troubles;

use std::process::ExitCode;

use sextant_proto::{convert::MessageError, v1};
use sextant_streams::write_stderr;

pub use args::CommandLine;
pub use complete::complete;

/// Executes the command line. Errors go to standard error, one line each.
pub async fn run(command_line: CommandLine) -> ExitCode {
    match command::run(command_line).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            write_stderr(&format!("sextant: {}", text::one_line(&failure.to_string())));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The text of `sextant status` for a controller's answer at this time.
///
/// # Errors
/// If the answer is invalid.
pub fn status_text(answer: v1::StatusResponse, now_unix_ms: u64) -> Result<String, MessageError> {
    answer::Cluster::try_from(answer).map(|cluster| text::status(&cluster, now_unix_ms))
}
