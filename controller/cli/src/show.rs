//! Showing answers on standard output.

use std::io::{ErrorKind, Write};

use serde_json::Value;
use sextant_proto::unix_ms;

use crate::{args::Output, failure::Failure, text};

/// An answer that can be shown. Pure: the caller passes the time.
pub(crate) trait Show {
    /// For people; each line ends in a newline.
    fn text(&self, now_unix_ms: u64) -> String;
    /// For programs.
    fn json(&self) -> Value;
}

/// Writes `what` to standard output.
pub(crate) fn print(output: Output, what: &dyn Show) -> Result<(), Failure> {
    let text = match output {
        Output::Table => what.text(unix_ms()),
        Output::Json => format!("{:#}\n", what.json()),
    };
    write(text.as_bytes())
}

/// Writes octets to standard output as they are.
pub(crate) fn write(octets: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(octets).and_then(|()| stdout.flush()) {
        // The reader closed the pipe early, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints the unreadable objects on standard error, one line each.
pub(crate) fn warn(unreadable: &[String]) {
    for line in unreadable {
        eprintln!("sextant: warning: {}", text::one_line(line));
    }
}
