//! Transitions of a daemon's own state in the log, in one form.
//!
//! A daemon that makes the same transition again and again while nothing else changes is in a loop; the tests read these
//! lines and fail then.

/// Logs that `subject` has gone from one state to another, for this reason. All four are constant words: a loop shows as
/// the same line.
pub fn transition(subject: &'static str, from: &'static str, to: &'static str, why: &'static str) {
    tracing::debug!(subject, from, to, why, "transition");
}
