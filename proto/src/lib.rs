//! Sextant's words as types, and the messages that carry them.
//!
//! Domain types ([`Prefix`], [`NodeName`], [`Pool`], [`Peer`], …) hold only valid values; messages ([`v1`], [`store`]) hold
//! whatever came in. [`convert`] is the one place where the second become the first. This crate does no I/O.

#![warn(missing_docs)]

mod ack;
pub mod brake;
mod clock;
mod containers;
pub mod convert;
mod counted;
mod duration;
mod id;
mod link_name;
mod name;
pub mod ndp;
mod node;
mod plain_text;
mod pool;
mod prefix;
mod problem;
mod quoted;
mod revision;
mod serialize;
mod shown;
pub mod trace;

pub use ack::{Ack, Applied};
pub use clock::unix_ms;
pub use containers::{Container, Containers};
pub use counted::counted;
pub use duration::{DurationError, parse_duration};
pub use id::{IdError, Incarnation, InstanceId, NodeId};
pub use link_name::{is_link_name, link_name_octets, link_name_text, link_name_word};
pub use name::{NameError, NodeName, PoolName};
pub use node::{
    BgpNeighbour, ClaimPhase, Conflict, Control, FailedRoute, InterfaceAddress, NodeState, Peer, PeerClaim,
    Uplink, Verdict, direct_next_hop, first_next_hop,
};
pub use plain_text::{PlainTextError, plain_text_allowed};
pub use pool::{Pool, PoolError};
pub use prefix::{Prefix, PrefixError};
pub use problem::Problem;
pub use quoted::quoted;
pub use revision::{Claim, Epoch, Mark, Revision};
pub use shown::{shell_operands, shell_word, shown_text};

/// The messages of the wire, generated from `proto/sextant/v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("sextant.v1");

    /// The descriptors of all messages, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// The values of the store, generated from `proto/sextant/store/v1`.
#[allow(missing_docs, clippy::all)]
pub mod store {
    /// Version 1, as the keys' `/sextant/v1/`.
    pub mod v1 {
        tonic::include_proto!("sextant.store.v1");
    }
}

/// The kernel's route protocol number of every route that Sextant owns (`sextant` in rt_protos).
pub const ROUTE_PROTOCOL: u8 = 66;

/// The error of an agent for an unknown question; controllers recognise it by this text.
pub const UNKNOWN_QUESTION: &str = "does not know this question";

/// How a copied disk loses what it has of the original: its bridge, too, has the original's prefix.
pub const CLEAR_COPY: &str =
    "stop sextant-agent, remove the containers, run `sextant-agent cleanup` and delete its state directory";

/// The error while a restore is in progress or was interrupted.
pub const HALF_RESTORED: &str = "the restore of the store is incomplete, and requests are refused: a restore is in progress, or \
     was interrupted. Run `sextant restore FILE` again to complete it, or `sextant restore --undo` to undo it";

/// This build's version, as reported to the other side.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
