//! The key of the host that joined last as a node.

use bytes::Bytes;
use prost::Message;
use sextant_proto::{convert::MessageError, store::v1 as stored};

use super::{Record, RecordError};

/// `identities/…`: the host that joined last as a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The SHA-256 of its public key.
    pub key_hash: [u8; 32],
}

impl Record for NodeIdentity {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::NodeIdentity { key_hash } = Message::decode(value)?;
        let key_hash = key_hash.as_ref().try_into();
        let key_hash = key_hash.map_err(|_| MessageError::new("key_hash", "a hash has 32 octets"))?;
        Ok(Self { key_hash })
    }

    fn encode(&self) -> Bytes {
        stored::NodeIdentity { key_hash: self.key_hash.to_vec().into() }.encode_to_vec().into()
    }
}
