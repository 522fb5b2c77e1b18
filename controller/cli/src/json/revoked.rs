//! Revoked people and controllers.

use serde::Serialize;
use sextant_proto::{NodeName, Revision, v1};

/// A node, person or controller that is revoked.
#[derive(Debug, Serialize)]
pub(crate) struct RevokedMember<'a> {
    kind: &'a str,
    name: &'a str,
    all: bool,
    serials: &'a [String],
    by: &'a str,
    since_unix_ms: u64,
}

/// A person or controller is revoked, or permitted again.
#[derive(Debug, Serialize)]
pub(crate) struct MemberRevoked<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a NodeName,
    pub(crate) serial: Option<&'a str>,
    pub(crate) revoked: bool,
    pub(crate) revision: Revision,
}

impl<'a> From<&'a v1::RevokedMember> for RevokedMember<'a> {
    fn from(it: &'a v1::RevokedMember) -> Self {
        let v1::RevokedMember { kind, name, all, serials, since_unix_ms, by } = it;
        Self { kind, name, all: *all, serials, by, since_unix_ms: *since_unix_ms }
    }
}
