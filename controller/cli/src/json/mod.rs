//! Answers for programs: one schema for each answer. Keys are stable between versions; `docs/json.md` documents them, and a
//! test compares that page with samples of each schema. Pure.
//!
//! Prefixes, addresses and ids are text; a missing value is `null`.

mod caller;
mod change;
mod containers;
mod event;
mod explained;
mod ndp;
mod node;
mod plan;
mod pool;
mod revoked;
mod route;
mod status;
mod token;
mod trace;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

pub(crate) use caller::Caller;
pub(crate) use change::{
    BackupWritten, ForgottenNode, NodeChanged, NodeReassigned, NodeRevoked, Paused, PoolChanged, Recovery,
    ReservationChanged, Restored, Undone, UnsignedAccepted, Waited,
};
pub(crate) use containers::Containers;
pub(crate) use event::Event;
pub(crate) use explained::Explained;
pub(crate) use node::{BgpNeighbour, Node};
pub(crate) use plan::Plan;
pub(crate) use pool::{Pool, Reservation};
pub(crate) use revoked::{MemberRevoked, RevokedMember};
pub(crate) use route::{ExportedRoutes, Route};
pub(crate) use status::Status;
pub(crate) use token::{Token, TokenCreated, TokenRevoked};
pub(crate) use trace::Trace;

/// The JSON of an answer.
pub(crate) fn value(answer: impl Serialize) -> Value {
    serde_json::to_value(answer).expect("all keys of the schemas are text, and JSON can represent all values")
}

/// The JSON of a list of answers.
pub(crate) fn list<T: Serialize>(answers: impl IntoIterator<Item = T>) -> Value {
    answers.into_iter().map(value).collect()
}

/// `None` for an empty text.
fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// `None` for 0, an unknown time.
fn known(unix_ms: u64) -> Option<u64> {
    Some(unix_ms).filter(|time| *time > 0)
}
