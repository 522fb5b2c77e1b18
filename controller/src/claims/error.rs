//! Why a node is granted no prefix, with the fix.

use std::net::Ipv6Addr;

use sextant_proto::{CLEAR_COPY, NodeId, NodeName, Pool, PoolName, Prefix, convert::MOST_POOLS, counted};

use super::{ATTEMPTS, Beside};
use crate::registry::RegistryError;

/// A host that shows the claim of another node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this agent (node \"{node}\", id {asking}) shows the claim of {prefix} that node \"{holder}\" (id {holder_id}) holds; its state \
     directory has claims of that node (a cloned disk?): on the copy, {node}, {CLEAR_COPY}, and start it again"
)]
pub struct Copied {
    /// The name of the requesting agent.
    pub node: NodeName,
    /// Its id.
    pub asking: NodeId,
    /// The name of the node that holds the claim.
    pub holder: NodeName,
    /// Its id.
    pub holder_id: NodeId,
    /// The claimed prefix.
    pub prefix: Prefix,
}

/// Why a node is granted no prefix.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The name belongs to another host.
    #[error(
        "node name \"{node}\" belongs to node id {holder} (prefix {}), and this agent's id is {asking}; \
         give this host another --node, or run `sextant node forget {node}` if the other host is gone",
        listed(.prefixes)
    )]
    NameTaken {
        /// The name.
        node: NodeName,
        /// The id of its holder.
        holder: NodeId,
        /// The prefixes of its holder.
        prefixes: Vec<Prefix>,
        /// The id of the requesting agent.
        asking: NodeId,
    },
    /// It has as many as a node may have.
    #[error(
        "node \"{node}\" has claims of {MOST_POOLS} pools, and no node has more; name fewer in its `pool`, and end a claim with `sextant node forget {node} --pool POOL`"
    )]
    TooMany {
        /// The node.
        node: NodeName,
    },
    /// The host has another name, which belongs to another host.
    #[error(
        "this agent's node id {asking} holds {} as node \"{former}\", and the name \"{node}\" belongs to node id {holder}; \
         start the agent with --node {former}, or with a name that is free",
        listed(.prefixes)
    )]
    Renamed {
        /// The name that it has now.
        node: NodeName,
        /// The id of the holder of that name.
        holder: NodeId,
        /// The name under which it holds its claims.
        former: NodeName,
        /// The prefixes of its claims.
        prefixes: Vec<Prefix>,
        /// Its id.
        asking: NodeId,
    },
    /// Another host has just made its first claim with the same node id.
    #[error(
        "node id {asking} has just claimed {} as node \"{former}\", and this agent has the same node id as node \"{node}\"; \
         two hosts share one state directory (a cloned disk?): on the copy {}, and start it again",
        listed(.prefixes), CLEAR_COPY
    )]
    SameIdClaims {
        /// The name of the requesting agent.
        node: NodeName,
        /// The name of the other one.
        former: NodeName,
        /// The prefixes of that.
        prefixes: Vec<Prefix>,
        /// The id of both.
        asking: NodeId,
    },
    /// An agent with the same node id is connected under another name.
    #[error(
        "node id {asking} belongs to node \"{former}\", the agent of which is connected and answers, and this agent has the same \
         node id as node \"{node}\"; two hosts share one state directory (a cloned disk?): on the copy {}, \
         and start it again. If this host was renamed, stop its other agent",
        CLEAR_COPY
    )]
    SameId {
        /// The name of the requesting agent.
        node: NodeName,
        /// The name of the connected agent.
        former: NodeName,
        /// The id of both.
        asking: NodeId,
    },
    /// The claims of the node id got another name a moment ago, whose agent connects next.
    #[error(
        "node id {asking} became node \"{former}\" a moment ago, and this agent has the same node id as node \"{node}\": asking \
         again in some seconds. If two hosts share one state directory (a cloned disk?), on the copy {}, and start it again",
        CLEAR_COPY
    )]
    JustNamed {
        /// The name of the requesting agent.
        node: NodeName,
        /// The name of the node.
        former: NodeName,
        /// The id of both.
        asking: NodeId,
    },
    /// The host shows the claim of another node.
    #[error("{0}")]
    Copied(Box<Copied>),
    /// There is no pool to claim from.
    #[error("there is no pool; add one: sextant pool add main 2001:db8:1::/48 --host-len 64")]
    NoPool,
    /// No pool has that name.
    #[error("pool \"{name}\" does not exist; pools: {}. Name one of them with --pool, or add it with `sextant pool add`", list(.pools))]
    UnknownPool {
        /// The requested name.
        name: PoolName,
        /// The existing pools.
        pools: Vec<PoolName>,
    },
    /// Several pools, and none was requested.
    #[error("several pools: {}; select one with --pool, or name one of them \"default\"", list(.0))]
    Ambiguous(Vec<PoolName>),
    /// A store that replaces a lost one grants no new prefix while nodes of the lost one may still register.
    #[error(
        "the store replaces a lost one, and grants no new prefix until its recovery window closes: a prefix that looks \
         free may be held by a node that has not registered yet. The window closes by itself; `sextant recover --finish` \
         closes it now, and lists the nodes that have not registered"
    )]
    Recovering,
    /// A controller that has just started does not know yet whether the store was reverted to a snapshot.
    #[error(
        "the controller has just started, and no agent has confirmed the store's history yet: a prefix that looks free may \
         be held; new prefixes are granted within some seconds"
    )]
    Unconfirmed,
    /// The pool is closed to new claims.
    #[error(
        "pool {0} is closed to new claims; open it with `sextant pool undrain {0}`, or select another one with --pool"
    )]
    Closed(PoolName),
    /// The pool has no host prefixes of that length.
    #[error(
        "--host-len {host_len} does not fit pool {} {}; give it {} to 126", .pool.name, .pool.prefix, .pool.prefix.len()
    )]
    HostLength {
        /// The requested length.
        host_len: u32,
        /// The pool.
        pool: Pool,
    },
    /// No agent may have so short a prefix.
    #[error(
        "--host-len {host_len} is shorter than the shortest that an agent may request of pool {pool}, {shortest}; give it {shortest} or \
         more, reserve a prefix for the node (`sextant reserve PREFIX --node {node}`), or raise `shorter-host-len` in [limits] of \
         controller.toml"
    )]
    TooShort {
        /// The node.
        node: NodeName,
        /// The requested length.
        host_len: u32,
        /// The shortest one.
        shortest: u32,
        /// The pool.
        pool: PoolName,
    },
    /// The prefix that is reserved for the node would take an address from its own host.
    #[error(
        "{prefix}, which is reserved for this node, contains {address}, which its own network stands on (its uplink, router or \
         controller); end the reservation with `sextant unreserve {prefix}`, and reserve another prefix"
    )]
    Infrastructure {
        /// The reserved prefix.
        prefix: Prefix,
        /// The address.
        address: Ipv6Addr,
    },
    /// The agent would not take a prefix of the pool.
    #[error(
        "pool {} {} is outside accept-pools ({}) of node {node}; if the cluster has it by right, add it to accept-pools in the \
         node's agent.toml and restart the agent",
        .pool.name, .pool.prefix, listed(accept_pools)
    )]
    NotAccepted {
        /// The node.
        node: NodeName,
        /// The pool.
        pool: Box<Pool>,
        /// What its agent takes.
        accept_pools: Vec<Prefix>,
    },
    /// No prefix is free.
    #[error(
        "pool {} {} is exhausted: no /{len} is free beside {beside} (it holds {} of /{}){}. End claims of hosts that are gone with `sextant node forget NAME`, or automatically with the \
         controllers' --hold-down; or `sextant pool grow {}`, or add a pool",
        .pool.name, .pool.prefix,
        counted(.pool.capacity(), "host prefix"), .pool.host_len, gone(*without_session), .pool.name
    )]
    Exhausted {
        /// The pool.
        pool: Pool,
        /// The requested length.
        len: u8,
        /// What it holds.
        beside: Beside,
        /// The number of claims of nodes without an agent.
        without_session: usize,
    },
    /// The node holds a prefix of a lost store, and the pools of this one have no place for it.
    #[error("the held prefix {prefix} of pool {} {} cannot be registered: {why}", .pool.name, .pool.prefix)]
    NoPlace {
        /// The held prefix.
        prefix: Prefix,
        /// Its pool in the lost store.
        pool: Box<Pool>,
        /// The reason, with the fix.
        why: String,
    },
    /// It holds a claim that the store does not have, and that its receipt does not prove.
    #[error(
        "the claim of {prefix} that this node shows is not in the store, and its receipt does not prove it: {why}; {}. To claim anew, \
         remove claim.json, more-claims.json and receipts.json from the agent's state directory, and start it again",
        accepts(*.is_open)
    )]
    Unproven {
        /// The prefix.
        prefix: Prefix,
        /// Why the receipt proves nothing.
        why: String,
        /// The recovery window is open.
        is_open: bool,
    },
    /// Concurrent claims won each time.
    #[error("{ATTEMPTS} attempts to claim collided with concurrent claims; try again")]
    Contended,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ClaimError {
    /// Whether an operator must act before the node gets a prefix, and nothing else reports it: not for a failing store, which
    /// is reported itself, nor if the next attempt may succeed.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NameTaken { .. }
            | Self::Renamed { .. }
            | Self::SameId { .. }
            | Self::SameIdClaims { .. }
            | Self::Copied(_)
            | Self::UnknownPool { .. }
            | Self::Ambiguous(_)
            | Self::Recovering
            | Self::Closed(_)
            | Self::HostLength { .. }
            | Self::TooShort { .. }
            | Self::Infrastructure { .. }
            | Self::NotAccepted { .. }
            | Self::TooMany { .. }
            | Self::Exhausted { .. }
            | Self::Unproven { .. }
            | Self::NoPlace { .. } => true,
            Self::NoPool
            | Self::JustNamed { .. }
            | Self::Unconfirmed
            | Self::Contended
            | Self::Registry(_) => false,
        }
    }
}

fn accepts(is_open: bool) -> &'static str {
    if is_open {
        "an admin lets claims without receipts count during this recovery window by `sextant recover --accept-unsigned`"
    } else {
        "the recovery window, in which an admin may let it count, is closed"
    }
}

/// An agent that waits, e.g. for a bridge, has no session yet.
fn gone(without_session: usize) -> String {
    let or_waits = "or with one that has not announced its prefix yet (see `sextant node list`)";
    match without_session {
        0 => String::new(),
        1 => format!("; 1 of the claims belongs to a node without an agent, {or_waits}"),
        n => format!("; {n} of the claims belong to nodes without an agent, {or_waits}"),
    }
}

pub(super) fn list(names: &[PoolName]) -> String {
    names.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", ")
}

/// Prefixes, for people.
pub fn listed(prefixes: &[Prefix]) -> String {
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
