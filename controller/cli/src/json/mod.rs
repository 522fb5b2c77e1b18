//! Answers for programs: one schema for each answer. Keys stay what they are from version to version; `docs/json.md` documents
//! them, which a test compares with samples of each schema. Pure.
//!
//! Prefixes, addresses and ids are text, and what is not there is `null`.

mod change;
mod event;
mod explained;
mod node;
mod plan;
mod pool;
mod route;
mod status;
mod trace;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

pub(crate) use change::{
    BackupWritten, ForgottenNode, NodeChanged, Paused, PoolChanged, Recovery, ReservationChanged, Restored,
    Undone, Waited,
};
pub(crate) use event::Event;
pub(crate) use explained::Explained;
pub(crate) use node::{BgpNeighbour, Node};
pub(crate) use plan::Plan;
pub(crate) use pool::{Pool, Reservation};
pub(crate) use route::Route;
pub(crate) use status::Status;
pub(crate) use trace::Trace;

/// The JSON of an answer.
pub(crate) fn value(answer: impl Serialize) -> Value {
    serde_json::to_value(answer)
        .expect("the schemas have keys that are text, and values that JSON can represent")
}

/// The JSON of a list of answers.
pub(crate) fn list<T: Serialize>(answers: impl IntoIterator<Item = T>) -> Value {
    answers.into_iter().map(value).collect()
}

/// `None` stands for an empty text.
fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// `None` stands for 0: a time that is not known.
fn known(unix_ms: u64) -> Option<u64> {
    Some(unix_ms).filter(|time| *time > 0)
}
