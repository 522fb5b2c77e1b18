//! The store's values as domain types.

mod denial;
mod identity;
mod member;
mod meta;
mod node;
mod tls_mode;
mod verdict;

use bytes::Bytes;
use prost::Message;
pub use sextant_proto::unix_ms;
use sextant_proto::{
    Epoch, Incarnation, InstanceId, NodeId, NodeName, PoolName, Revision, VERSION,
    convert::{self, MessageError},
    store::v1 as stored,
    v1,
};

use crate::{keys::Keys, registry::Op};

pub use denial::DenialRecord;
pub use identity::NodeIdentity;
pub use member::MemberDenial;
pub use meta::{FORMAT, Meta};
pub use node::{HeldClaim, NodeRecord};
pub use tls_mode::TlsMode;
pub use verdict::{Observers, Seen, VerdictRecord, seen};

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the message that its key promises.
    #[error("not a protobuf message of its kind: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// A field is wrong.
    #[error(transparent)]
    Field(#[from] MessageError),
    /// The store has records that only a newer version knows.
    #[error(
        "the store has records of format {0}, and this controller (sextant {VERSION}) knows formats up to {FORMAT}; it changes \
         nothing there. Use a controller of the version that wrote it, or a newer one"
    )]
    Newer(u32),
}

/// A value of the store.
pub trait Record: Sized {
    /// From the value's octets.
    ///
    /// # Errors
    /// If they are not such a record.
    fn decode(value: &[u8]) -> Result<Self, RecordError>;
    /// The value's octets.
    fn encode(&self) -> Bytes;
}

/// `meta/control`. A resume is a put without `paused`; its revision is what counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRecord {
    /// No agent changes its kernel.
    pub paused: bool,
}

/// `doubts/…`: the node reports history that the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubtRecord {
    /// The doubted incarnation.
    pub of: Incarnation,
    /// What the node knows, for people.
    pub knows: String,
    /// Its node id. Earlier versions do not tell.
    pub node_id: Option<NodeId>,
    /// The claim that it shows, if it is a claim that the store does not have.
    pub claim: Option<Epoch>,
}

/// `lineage/…`: the mark of each grant and each end of a claim in the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRecord {
    /// Who was granted a claim; `None`: a claim ended, or the marks began.
    pub granted_to: Option<NodeId>,
}

impl MarkRecord {
    /// What puts it as the mark `id`.
    pub fn op(&self, keys: &Keys, id: u64) -> Op {
        Op::put(keys.mark(id), self.encode())
    }
}

/// `meta/removals`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalsRecord {
    /// What ended since the last resume, and is to be counted.
    pub recent: Vec<Removal>,
    /// How many ended by commands that an operator confirmed, ever.
    pub confirmed: u64,
}

/// An announced node whose claim ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub node: NodeName,
    /// The create revision of the claim that ended.
    pub claimed: Revision,
    /// The revision that ended it; `None`: the one that put the record.
    pub ended: Option<Revision>,
    /// When, by the wall clock. It decides nothing.
    pub unix_ms: u64,
}

/// `claims/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    /// Who holds it, by name.
    pub node: NodeName,
    /// Who holds it, by id.
    pub node_id: NodeId,
    /// What it is cut out of.
    pub pool: PoolName,
    /// Since when.
    pub claimed_unix_ms: u64,
    /// Since when it was held in the incarnation before this one.
    pub prior: Option<Epoch>,
}

/// `reservations/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationRecord {
    /// The only node that may claim it; `None`: none.
    pub node: Option<NodeName>,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub created_unix_ms: u64,
}

/// `freed/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreedRecord {
    /// Who had it.
    pub node: NodeName,
    /// Who had it, by id: it may have it back at once.
    pub node_id: NodeId,
    /// Since when it is free.
    pub freed_unix_ms: u64,
}

/// `sessions/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The controller that has the stream.
    pub controller: String,
    /// The instance of the agent; none for older agents.
    pub instance: Option<InstanceId>,
    /// The serial number of the agent's certificate; empty over plain text.
    pub serial: String,
}

/// `controllers/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerRecord {
    /// Its listen address.
    pub address: String,
    /// Its build.
    pub version: String,
    /// What it takes; `None` from earlier versions.
    pub tls: Option<TlsMode>,
}

impl Record for DoubtRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Doubt { incarnation, knows, node_id, claim } = Message::decode(value)?;
        let node_id = Some(&node_id).filter(|it| !it.is_empty());
        Ok(Self {
            of: convert::id("incarnation", &incarnation)?,
            knows,
            node_id: node_id.map(|it| convert::id("node_id", it)).transpose()?,
            claim: claim.map(Epoch::try_from).transpose()?,
        })
    }

    fn encode(&self) -> Bytes {
        let message = stored::Doubt {
            incarnation: self.of.into(),
            knows: self.knows.clone(),
            node_id: self.node_id.map(Into::into).unwrap_or_default(),
            claim: self.claim.map(Into::into),
        };
        message.encode_to_vec().into()
    }
}

impl Record for MarkRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Mark { node_id } = Message::decode(value)?;
        let node_id = Some(&node_id).filter(|it| !it.is_empty());
        Ok(Self { granted_to: node_id.map(|it| convert::id("node_id", it)).transpose()? })
    }

    fn encode(&self) -> Bytes {
        stored::Mark { node_id: self.granted_to.map(Into::into).unwrap_or_default() }.encode_to_vec().into()
    }
}

impl Record for ClaimRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let message: stored::Claim = Message::decode(value)?;
        Ok(Self {
            node: convert::parse("node", &message.node)?,
            node_id: convert::id("node_id", &message.node_id)?,
            pool: convert::parse("pool", &message.pool)?,
            claimed_unix_ms: message.claimed_unix_ms,
            prior: message.prior.map(|epoch| convert::required("prior", Some(epoch))).transpose()?,
        })
    }

    fn encode(&self) -> Bytes {
        let message = stored::Claim {
            node: self.node.to_string(),
            node_id: self.node_id.into(),
            pool: self.pool.to_string(),
            claimed_unix_ms: self.claimed_unix_ms,
            prior: self.prior.map(Into::into),
        };
        message.encode_to_vec().into()
    }
}

impl Record for ReservationRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Reservation { node, reason, created_unix_ms } = Message::decode(value)?;
        let node = (!node.is_empty()).then(|| convert::parse("node", &node)).transpose()?;
        Ok(Self { node, reason, created_unix_ms })
    }

    fn encode(&self) -> Bytes {
        let node = self.node.as_ref().map(ToString::to_string).unwrap_or_default();
        let (reason, created_unix_ms) = (self.reason.clone(), self.created_unix_ms);
        stored::Reservation { node, reason, created_unix_ms }.encode_to_vec().into()
    }
}

impl Record for FreedRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Freed { node, node_id, freed_unix_ms } = Message::decode(value)?;
        let (node, node_id) = (convert::parse("node", &node)?, convert::id("node_id", &node_id)?);
        Ok(Self { node, node_id, freed_unix_ms })
    }

    fn encode(&self) -> Bytes {
        let (node, freed_unix_ms) = (self.node.to_string(), self.freed_unix_ms);
        stored::Freed { node, node_id: self.node_id.into(), freed_unix_ms }.encode_to_vec().into()
    }
}

impl Record for SessionRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Session { controller, instance, serial } = Message::decode(value)?;
        // A session with an instance that cannot be read is as good as one without.
        Ok(Self { controller, instance: InstanceId::try_from(&instance[..]).ok(), serial })
    }

    fn encode(&self) -> Bytes {
        let instance = self.instance.map(Into::into).unwrap_or_default();
        let (controller, serial) = (self.controller.clone(), self.serial.clone());
        stored::Session { controller, instance, serial }.encode_to_vec().into()
    }
}

impl Record for ControllerRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Controller { address, version, tls } = Message::decode(value)?;
        Ok(Self { address, version, tls: tls.parse().ok() })
    }

    fn encode(&self) -> Bytes {
        let tls = self.tls.map(|tls| tls.to_string()).unwrap_or_default();
        let (address, version) = (self.address.clone(), self.version.clone());
        stored::Controller { address, version, tls }.encode_to_vec().into()
    }
}

impl Record for ControlRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Control { paused } = Message::decode(value)?;
        Ok(Self { paused })
    }

    fn encode(&self) -> Bytes {
        stored::Control { paused: self.paused }.encode_to_vec().into()
    }
}

impl Record for RemovalsRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Removals { recent, confirmed } = Message::decode(value)?;
        let removal = |it: stored::Removal| {
            let node = convert::parse("node", &it.node)?;
            let ended = (it.ended > 0).then_some(Revision(it.ended));
            Ok(Removal { node, claimed: Revision(it.claimed), ended, unix_ms: it.unix_ms })
        };
        Ok(Self { recent: recent.into_iter().map(removal).collect::<Result<_, RecordError>>()?, confirmed })
    }

    fn encode(&self) -> Bytes {
        let removal = |it: &Removal| stored::Removal {
            node: it.node.to_string(),
            claimed: it.claimed.0,
            unix_ms: it.unix_ms,
            ended: it.ended.map_or(0, |ended| ended.0),
        };
        let recent = self.recent.iter().map(removal).collect();
        stored::Removals { recent, confirmed: self.confirmed }.encode_to_vec().into()
    }
}

impl Record for sextant_proto::Pool {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        Ok(<v1::Pool as Message>::decode(value)?.try_into()?)
    }

    fn encode(&self) -> Bytes {
        v1::Pool::from(self).encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused() {
        assert!(NodeRecord::decode(b"\xff\xff").is_err());
        assert!(Meta::decode(b"").is_err());
    }
}
