//! Log lines of the state transitions of a daemon, in one format.
//!
//! A daemon that repeats the same transition while nothing else changes is in a loop; the tests read these lines, and fail on
//! loops.

/// Logs a transition of `subject`, with its reason. All four are constant, so that a loop repeats the same line.
pub fn transition(subject: &'static str, from: &'static str, to: &'static str, why: &'static str) {
    tracing::debug!(subject, from, to, why, "transition");
}
