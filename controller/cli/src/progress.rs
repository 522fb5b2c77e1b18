//! Progress of long work, on a terminal only: a line on standard error that goes away at the end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{answer::Waited, text};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// The line. Dropping it takes it away.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A line that says `what`; nothing where standard error is no terminal.
    pub(crate) fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn say(&self, what: String) {
        self.0.set_message(what);
    }

    pub(crate) fn waited(&self, waited: &Waited) {
        self.say(text::progress(waited));
    }

    /// Writes a line that stays.
    pub(crate) fn note(&self, line: &str) {
        self.0.suspend(|| eprintln!("sextant: {}", text::one_line(line)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
