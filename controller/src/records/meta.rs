//! The store's record of itself.

use bytes::Bytes;
use prost::Message;
use sextant_proto::{Incarnation, convert, store::v1 as stored, unix_ms};

use super::{Record, RecordError};

/// The newest form of records that this version reads and writes.
pub const FORMAT: u32 = 3;
/// The form of records of stores from before forms were noted: each node has one claim.
const FIRST_FORMAT: u32 = 2;

/// How many earlier incarnations a store remembers.
const MOST_ANCESTORS: usize = 16;

/// `meta/store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Which store this is.
    pub incarnation: Incarnation,
    /// When it was made.
    pub created_unix_ms: u64,
    /// It may lack claims that agents still hold.
    pub recovering: bool,
    /// The incarnation that it replaces, once that is known.
    pub replaces: Option<Incarnation>,
    /// A restore is in progress or was interrupted.
    pub restoring: bool,
    /// The content is that of `replaces` at an earlier revision: a snapshot of the store was restored under it.
    pub forked: bool,
    /// The incarnations that came before, as far as they are known; the newest last.
    pub ancestors: Vec<Incarnation>,
    /// The newest form of a record in the store.
    pub format: u32,
    /// Claims without receipts count until the recovery window closes.
    pub accepts_unsigned: bool,
}

impl Meta {
    /// The record of a new store. It may replace a lost one, so its recovery window is open.
    pub fn new() -> Self {
        Self {
            incarnation: Incarnation::random(),
            created_unix_ms: unix_ms(),
            recovering: true,
            replaces: None,
            restoring: false,
            forked: false,
            ancestors: Vec::new(),
            format: FIRST_FORMAT,
            accepts_unsigned: false,
        }
    }

    /// The same, noting that a node's record has the form for several claims: controllers that cannot read that refuse the store.
    #[must_use]
    pub fn with_several_claims(self) -> Self {
        Self { format: FORMAT, ..self }
    }

    /// The same, noting that no node's record has the form for several claims.
    #[must_use]
    pub fn without_several_claims(self) -> Self {
        Self { format: FIRST_FORMAT, ..self }
    }

    /// Whether a node's record may have the form for several claims.
    pub fn has_several_claims(&self) -> bool {
        self.format >= FORMAT
    }

    /// That of a store whose content was taken back to an earlier revision of this one: another incarnation, whose recovery
    /// window is open.
    pub fn fork(&self) -> Self {
        let fork = Self {
            forked: true,
            restoring: self.restoring,
            ancestors: self.ancestors.clone(),
            format: self.format,
            ..Self::new()
        };
        fork.in_place_of(self.incarnation)
    }

    /// The same, replacing the incarnation `lost`.
    pub fn in_place_of(mut self, lost: Incarnation) -> Self {
        self.replaces = Some(lost);
        self.ancestors.retain(|it| *it != lost);
        self.ancestors.push(lost);
        self.ancestors.drain(..self.ancestors.len().saturating_sub(MOST_ANCESTORS));
        self
    }

    /// Whether `incarnation` is this one, or came before it.
    pub fn descends_from(&self, incarnation: Incarnation) -> bool {
        self.incarnation == incarnation
            || self.replaces == Some(incarnation)
            || self.ancestors.contains(&incarnation)
    }

    /// Whether it is known to replace another store whose nodes may still register.
    pub fn stands_in(&self) -> bool {
        self.recovering && self.replaces.is_some()
    }
}

impl Default for Meta {
    fn default() -> Self {
        Self::new()
    }
}

impl Record for Meta {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let message: stored::Meta = Message::decode(value)?;
        if message.format > FORMAT {
            return Err(RecordError::Newer(message.format));
        }
        let replaces = Some(&message.replaces).filter(|it| !it.is_empty());
        let incarnation = if message.sealed.is_empty() { &message.incarnation } else { &message.sealed };
        Ok(Self {
            incarnation: convert::id("incarnation", incarnation)?,
            created_unix_ms: message.created_unix_ms,
            recovering: message.recovering,
            replaces: replaces.map(|it| convert::id("replaces", it)).transpose()?,
            restoring: message.restoring,
            forked: message.forked,
            ancestors: message
                .ancestors
                .iter()
                .map(|it| convert::id("ancestors", it))
                .collect::<Result<_, _>>()?,
            format: message.format.max(FIRST_FORMAT),
            accepts_unsigned: message.accepts_unsigned,
        })
    }

    fn encode(&self) -> Bytes {
        let (open, sealed) = if self.has_several_claims() {
            (None, Some(self.incarnation))
        } else {
            (Some(self.incarnation), None)
        };
        let message = stored::Meta {
            incarnation: open.map(Into::into).unwrap_or_default(),
            sealed: sealed.map(Into::into).unwrap_or_default(),
            created_unix_ms: self.created_unix_ms,
            recovering: self.recovering,
            replaces: self.replaces.map(Into::into).unwrap_or_default(),
            restoring: self.restoring,
            forked: self.forked,
            ancestors: self.ancestors.iter().map(|it| (*it).into()).collect(),
            format: if self.format > FIRST_FORMAT { self.format } else { 0 },
            accepts_unsigned: self.accepts_unsigned,
        };
        message.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(meta: &Meta) -> stored::Meta {
        Message::decode(&meta.encode()[..]).unwrap()
    }

    #[test]
    fn versions_that_do_not_know_of_formats_find_no_incarnation_where_nodes_have_several_claims() {
        let low = Meta::new();
        let high = low.clone().with_several_claims();
        assert!(!message(&low).incarnation.is_empty() && message(&low).sealed.is_empty());
        assert!(message(&high).incarnation.is_empty());
        assert_eq!(message(&low).incarnation, message(&high).sealed);
        for meta in [low, high] {
            assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn a_later_format_is_refused() {
        let later = stored::Meta { format: FORMAT + 1, ..message(&Meta::new()) };
        assert_eq!(Meta::decode(&later.encode_to_vec()), Err(RecordError::Newer(FORMAT + 1)));
    }
}
