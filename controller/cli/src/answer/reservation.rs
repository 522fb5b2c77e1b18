//! A reservation.

use sextant_proto::{
    Prefix,
    convert::{MessageError, required},
    v1,
};

/// A prefix that only one node, or none, can claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) prefix: Prefix,
    /// Empty: no node can claim it.
    pub(crate) node: String,
    pub(crate) reason: String,
    pub(crate) created_unix_ms: u64,
    pub(crate) pool: String,
    /// Whether the node holds the reserved prefix.
    pub(crate) claimed: bool,
}

impl TryFrom<v1::Reservation> for Reservation {
    type Error = MessageError;

    fn try_from(message: v1::Reservation) -> Result<Self, MessageError> {
        let v1::Reservation { prefix, node, reason, created_unix_ms, pool, claimed } = message;
        Ok(Self { prefix: required("prefix", prefix)?, node, reason, created_unix_ms, pool, claimed })
    }
}
