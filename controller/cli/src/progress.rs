//! Progress of long commands, on a terminal only: a line on standard error that is cleared at the end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use sextant_streams::write_stderr;

use crate::{answer::Waited, text};

/// The refresh interval of the spinner.
const TICK: Duration = Duration::from_millis(120);

/// The progress line. Dropping it clears the line.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows `what`; nothing if standard error is not a terminal.
    pub(crate) fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn show(&self, what: String) {
        self.0.set_message(what);
    }

    pub(crate) fn waited(&self, waited: &Waited) {
        self.show(text::progress(waited));
    }

    /// Writes a permanent line.
    pub(crate) fn note(&self, line: &str) {
        self.0.suspend(|| write_stderr(&format!("sextant: {}", text::one_line(line))));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
