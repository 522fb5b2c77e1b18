//! A person or a controller that is revoked.

use bytes::Bytes;
use prost::Message;
use sextant_proto::store::v1 as stored;

use super::{Record, RecordError};

/// `denied-admins/…`, `denied-controllers/…`: its streams and calls are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDenial {
    /// With each certificate of the name.
    pub all: bool,
    /// With the certificates of these serial numbers.
    pub serials: Vec<String>,
    /// Since when.
    pub denied_unix_ms: u64,
    /// The actor.
    pub by: String,
}

impl MemberDenial {
    /// Whether the certificate with this serial number is refused.
    pub fn includes(&self, serial: &str) -> bool {
        self.all || self.serials.iter().any(|it| it == serial)
    }
}

impl Record for MemberDenial {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::MemberDenial { all, serials, denied_unix_ms, by } = Message::decode(value)?;
        Ok(Self { all, serials, denied_unix_ms, by })
    }

    fn encode(&self) -> Bytes {
        let Self { all, serials, denied_unix_ms, by } = self.clone();
        stored::MemberDenial { all, serials, denied_unix_ms, by }.encode_to_vec().into()
    }
}
