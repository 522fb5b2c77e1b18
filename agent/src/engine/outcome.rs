//! The kernel's answers to a batch of changes. Pure.

use crate::kernel::{Change, Errno};

/// The kernel reports that a route is missing (to replace, to delete) or exists already: the known routes are stale.
const CONTRADICTIONS: [i32; 3] = [ENOENT, ESRCH, EEXIST];
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;

/// Which changes of a batch were made, and which were refused.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: Vec<Change>,
    pub(super) refused: Vec<(Change, Errno)>,
}

impl Outcome {
    /// Each change, with the kernel's answer to it.
    pub(super) fn of(changes: Vec<Change>, answers: Vec<Result<(), Errno>>) -> Self {
        if answers.len() == changes.len() && answers.iter().all(Result::is_ok) {
            return Self { done: changes, refused: Vec::new() };
        }
        let mut outcome = Self { done: Vec::with_capacity(changes.len()), refused: Vec::new() };
        for (change, answer) in changes.into_iter().zip(answers) {
            match answer {
                Ok(()) => outcome.done.push(change),
                Err(errno) => outcome.refused.push((change, errno)),
            }
        }
        outcome
    }

    /// Whether the kernel's routes are not those that the batch was planned for.
    pub(super) fn contradicts_known_routes(&self) -> bool {
        self.refused.iter().any(|(_, errno)| CONTRADICTIONS.contains(&errno.code))
    }
}
