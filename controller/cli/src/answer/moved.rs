//! The move of a node to another prefix.

use sextant_proto::{
    PoolName, Prefix, Revision,
    convert::{MessageError, parse, required},
    v1,
};

/// A move, made or planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) pool: PoolName,
    pub(crate) from: Prefix,
    /// Equal to `from` if the node holds the prefix already.
    pub(crate) to: Prefix,
    /// Peers route to the node: it is to be drained first.
    pub(crate) in_service: bool,
    /// The node's agent is connected.
    pub(crate) connected: bool,
    pub(crate) revision: Revision,
}

impl TryFrom<v1::ReassignNodeResponse> for Move {
    type Error = MessageError;

    fn try_from(message: v1::ReassignNodeResponse) -> Result<Self, MessageError> {
        let v1::ReassignNodeResponse { revision, pool, from, to, in_service, connected } = message;
        Ok(Self {
            pool: parse("pool", &pool)?,
            from: required("from", from)?,
            to: required("to", to)?,
            in_service,
            connected,
            revision: Revision(revision),
        })
    }
}
