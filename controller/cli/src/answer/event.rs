//! An event: a change in the store.

use sextant_proto::{
    Incarnation, NodeName, PoolName, Prefix, Revision,
    convert::{MessageError, id, parse},
    v1,
};

/// A change in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) revision: Revision,
    pub(crate) incarnation: Incarnation,
    pub(crate) unix_ms: u64,
    pub(crate) what: String,
    pub(crate) node: Option<NodeName>,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) pool: Option<PoolName>,
    pub(crate) by: String,
    pub(crate) detail: String,
}

impl TryFrom<v1::Event> for Event {
    type Error = MessageError;

    fn try_from(message: v1::Event) -> Result<Self, MessageError> {
        let prefix = message.prefix.map(Prefix::try_from).transpose();
        Ok(Self {
            revision: Revision(message.revision),
            incarnation: id("incarnation", &message.incarnation)?,
            unix_ms: message.unix_ms,
            what: message.what,
            node: (!message.node.is_empty()).then(|| parse("node", &message.node)).transpose()?,
            prefix: prefix.map_err(|error| MessageError::new("prefix", error))?,
            pool: (!message.pool.is_empty()).then(|| parse("pool", &message.pool)).transpose()?,
            by: message.by,
            detail: message.detail,
        })
    }
}
