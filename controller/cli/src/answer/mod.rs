//! A controller's answers as domain types. Nothing is validated again after this module.
//!
//! An invalid pool or node does not hide the others (DESIGN I10): it is listed in `unreadable`.

mod cluster;
mod event;
mod explained;
mod moved;
mod node;
mod plan;
mod reservation;
mod route;
#[cfg(test)]
pub(crate) mod sample;
mod trace;

use sextant_proto::{
    NodeName, Pool, Revision,
    convert::{MessageError, parse, required},
    v1,
};

pub(crate) use cluster::{Backups, Cluster, Controller, Refused, Removals, Revoked, Router, Unregistered};
pub(crate) use event::Event;
pub(crate) use explained::{Explained, Place};
pub(crate) use moved::Move;
pub(crate) use node::{ClaimDetails, Liveness, Node};
pub(crate) use plan::{Plan, Planned};
pub(crate) use reservation::Reservation;
pub(crate) use route::{Route, RouteState, Target};
pub(crate) use trace::Trace;

/// A pool and its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolUse {
    pub(crate) pool: Pool,
    /// The number of claimed host prefixes.
    pub(crate) claimed: u64,
    /// The number of host prefixes; `u64::MAX` for that and more.
    pub(crate) capacity: u64,
    /// The number of reservations in it.
    pub(crate) reserved: u64,
    /// The number of quarantined prefixes.
    pub(crate) quarantined: u64,
}

/// The valid items of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Readable<T> {
    pub(crate) items: Vec<T>,
    /// The invalid items with their errors, one line each.
    pub(crate) unreadable: Vec<String>,
}

/// The progress of the live agents towards a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waited {
    pub(crate) revision: Revision,
    pub(crate) applied: u32,
    pub(crate) live: u32,
    pub(crate) done: bool,
    pub(crate) laggards: Vec<NodeName>,
}

impl TryFrom<v1::PoolUse> for PoolUse {
    type Error = MessageError;

    fn try_from(message: v1::PoolUse) -> Result<Self, MessageError> {
        Ok(Self {
            pool: required("pool", message.pool)?,
            claimed: message.claimed,
            capacity: message.capacity,
            reserved: message.reserved,
            quarantined: message.quarantined,
        })
    }
}

impl TryFrom<v1::WaitProgress> for Waited {
    type Error = MessageError;

    fn try_from(message: v1::WaitProgress) -> Result<Self, MessageError> {
        Ok(Self {
            revision: Revision(message.revision),
            applied: message.applied,
            live: message.live,
            done: message.done,
            laggards: names(&message.laggards)?,
        })
    }
}

/// The pools of an answer.
pub(crate) fn readable_pools(messages: Vec<v1::PoolUse>) -> Readable<PoolUse> {
    let name = |message: &v1::PoolUse| {
        let pool = message.pool.as_ref();
        format!("pool \"{}\"", pool.map_or("", |pool| &pool.name))
    };
    readable(messages, name)
}

/// The nodes of an answer.
pub(crate) fn readable_nodes(messages: Vec<v1::Node>) -> Readable<Node> {
    let name = |message: &v1::Node| {
        let peer = message.peer.as_ref();
        format!("node \"{}\"", peer.map_or("", |peer| &peer.name))
    };
    readable(messages, name)
}

fn readable<M, T>(messages: Vec<M>, name: impl Fn(&M) -> String) -> Readable<T>
where
    T: TryFrom<M, Error = MessageError>,
{
    let mut readable = Readable { items: Vec::with_capacity(messages.len()), unreadable: Vec::new() };
    for message in messages {
        let name = name(&message);
        match T::try_from(message) {
            Ok(item) => readable.items.push(item),
            Err(error) => readable.unreadable.push(format!(
                "{name} is not shown: invalid answer ({error}); use a sextant of the controller's version"
            )),
        }
    }
    readable
}

fn names(texts: &[String]) -> Result<Vec<NodeName>, MessageError> {
    texts.iter().map(|text| parse("laggards", text)).collect()
}
