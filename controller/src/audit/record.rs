//! An entry's value in the store.

use bytes::Bytes;
use prost::Message;
use sextant_proto::{NodeName, PoolName, Prefix, convert, store::v1 as stored};

use crate::records::{Record, RecordError};

/// `audit/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When, by the clock of the controller that did it.
    pub unix_ms: u64,
    /// What was done; a word of the version that wrote it.
    pub what: String,
    /// To which node.
    pub node: Option<NodeName>,
    /// With which prefix.
    pub prefix: Option<Prefix>,
    /// In which pool.
    pub pool: Option<PoolName>,
    /// The actor.
    pub by: String,
    /// Details.
    pub detail: String,
}

impl Record for AuditRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Audit { unix_ms, what, node, prefix, pool, by, detail } = Message::decode(value)?;
        let node = (!node.is_empty()).then(|| convert::parse("node", &node)).transpose()?;
        let pool = (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose()?;
        let prefix = prefix.map(|prefix| convert::required("prefix", Some(prefix))).transpose()?;
        Ok(Self { unix_ms, what, node, prefix, pool, by, detail })
    }

    fn encode(&self) -> Bytes {
        let name = |name: &Option<NodeName>| name.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = stored::Audit {
            unix_ms: self.unix_ms,
            what: self.what.clone(),
            node: name(&self.node),
            prefix: self.prefix.map(Into::into),
            pool: self.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            by: self.by.clone(),
            detail: self.detail.clone(),
        };
        message.encode_to_vec().into()
    }
}
