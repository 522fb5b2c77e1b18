//! Showing answers on standard output.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::unix_ms;
use sextant_streams::{stdout_has_reader, write_stderr, write_stdout};

use crate::{failure::Failure, global::Output, text};

/// How often a command without an end of its own checks that someone reads its output.
const READER_CHECK: Duration = Duration::from_millis(200);

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
    Ok(write_stdout(octets)?)
}

/// Ready when the reader of standard output has gone, which may be long before the next write.
pub(crate) async fn reader_gone() {
    while stdout_has_reader() {
        tokio::time::sleep(READER_CHECK).await;
    }
}

/// Prints the unreadable objects on standard error, one line each.
pub(crate) fn warn(unreadable: &[String]) {
    for line in unreadable {
        write_stderr(&format!("sextant: warning: {}", text::one_line(line)));
    }
}
