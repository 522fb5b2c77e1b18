//! Events.

use serde::Serialize;
use sextant_proto::{Incarnation, NodeName, PoolName, Prefix, Revision};

use crate::answer;

/// A change in the store.
#[derive(Debug, Serialize)]
pub(crate) struct Event<'a> {
    revision: Revision,
    incarnation: Incarnation,
    unix_ms: u64,
    what: &'a str,
    node: Option<&'a NodeName>,
    prefix: Option<Prefix>,
    pool: Option<&'a PoolName>,
    by: &'a str,
    detail: &'a str,
    time_goes_back: bool,
}

impl<'a> Event<'a> {
    /// `time_goes_back`: its time is before that of the previous event.
    pub(crate) fn new(event: &'a answer::Event, time_goes_back: bool) -> Self {
        Self {
            revision: event.revision,
            incarnation: event.incarnation,
            unix_ms: event.unix_ms,
            what: &event.what,
            node: event.node.as_ref(),
            prefix: event.prefix,
            pool: event.pool.as_ref(),
            by: &event.by,
            detail: &event.detail,
            time_goes_back,
        }
    }
}
