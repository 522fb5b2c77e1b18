//! Standard output and standard error. Their readers may end at any time, as `head` does, or stop to read; a program does its
//! work all the same.
//!
//! `print!` and `eprint!` panic if the reader has gone, so no program of Sextant uses them: each denies the lints
//! `clippy::print_stdout` and `clippy::print_stderr`.

#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod log_sink;
mod readers;
mod stdout;

use std::io::Write;

pub use log_sink::LogSink;
pub use readers::stdout_has_reader;
pub use stdout::{Printer, write_stdout};

/// Writes a line to standard error, for a person. A failure is ignored: there is no other place to report it.
pub fn write_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
