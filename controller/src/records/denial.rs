//! A node that is revoked.

use bytes::Bytes;
use prost::Message;
use sextant_proto::{NodeId, convert, store::v1 as stored};

use super::{Record, RecordError};

/// `denied/…`: the streams and calls of the node are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenialRecord {
    /// Its node ids.
    pub node_ids: Vec<NodeId>,
    /// The serial numbers of its certificates, as far as they are known.
    pub serials: Vec<String>,
    /// Since when.
    pub denied_unix_ms: u64,
    /// The actor.
    pub by: String,
}

impl Record for DenialRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Denial { node_ids, serials, denied_unix_ms, by } = Message::decode(value)?;
        let node_ids = node_ids.iter().map(|id| convert::id("node_ids", id));
        Ok(Self { node_ids: node_ids.collect::<Result<_, _>>()?, serials, denied_unix_ms, by })
    }

    fn encode(&self) -> Bytes {
        let node_ids = self.node_ids.iter().map(|id| (*id).into()).collect();
        let (serials, by) = (self.serials.clone(), self.by.clone());
        stored::Denial { node_ids, serials, denied_unix_ms: self.denied_unix_ms, by }.encode_to_vec().into()
    }
}
