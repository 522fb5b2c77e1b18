//! Whether the path between two nodes works, by what their agents observed of it. Pure.

mod judge;

use sextant_proto::trace::{Check, Probe};

pub use judge::{End, judge};

/// What the agent of one of the two nodes saw, as far as it was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Half {
    /// Of its host.
    pub host: Vec<Check>,
    /// Of the way to the other one, as it begins.
    pub way: Vec<Check>,
    /// Of packets to the other one.
    pub probe: Option<Probe>,
    /// Why it did not answer, or not everything.
    pub missing: Option<String>,
}
