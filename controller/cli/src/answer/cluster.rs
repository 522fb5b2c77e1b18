//! The whole cluster, as `status` shows it.

use std::{fmt, time::Duration};

use sextant_proto::{
    Applied, Incarnation, NodeName, PoolName, Prefix, Problem, Revision,
    convert::{MessageError, all, id, parse, required},
    v1,
};

use super::{Node, PoolUse, readable_nodes, readable_pools};

/// An agent that routes to all nodes and holds no prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Router {
    pub(crate) name: NodeName,
    pub(crate) applied: Option<Applied>,
}

/// A running controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) version: String,
    /// Problems between it and its store, or between it and the queried controller.
    pub(crate) problems: Vec<Problem>,
    /// It is the queried controller.
    pub(crate) asked: bool,
}

/// The whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) store: String,
    pub(crate) incarnation: Incarnation,
    /// The queried controller does not know the present store: this is the last known state.
    pub(crate) stale: bool,
    /// The last one published to agents.
    pub(crate) revision: Revision,
    /// The recovery window is open: a new store waits for the agents of a lost one.
    pub(crate) recovering: bool,
    /// Agents do not change their kernels.
    pub(crate) paused: bool,
    /// A restore is in progress, or was interrupted.
    pub(crate) restoring: bool,
    /// Nodes that have not registered since the store replaced an earlier one.
    pub(crate) silent: Vec<NodeName>,
    /// Nodes that report changes that the store does not have, and those changes.
    pub(crate) other_histories: Vec<(NodeName, String)>,
    /// Nodes whose streams and calls are refused.
    pub(crate) revoked: Vec<Revoked>,
    /// Whether the queried controller takes TLS: `off`, `warn` (beside plain text) or `strict`; empty from earlier versions.
    pub(crate) tls: String,
    /// Who uses plain text, or takes nothing else, while the queried controller takes both.
    pub(crate) plain: Vec<String>,
    /// Nodes whose claims the queried controller refuses.
    pub(crate) refused: Vec<Refused>,
    /// Claims of a lost store that end with the recovery window.
    pub(crate) unregistered: Vec<Unregistered>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) pools: Vec<PoolUse>,
    pub(crate) nodes: Vec<Node>,
    /// Connected agents that hold no prefix.
    pub(crate) routers: Vec<Router>,
    /// The reserved prefixes.
    pub(crate) reserved: Vec<Prefix>,
    /// Recently forgotten nodes.
    pub(crate) removals: Removals,
    /// The queried controller's automatic backups, if enabled.
    pub(crate) backups: Option<Backups>,
    /// Invalid pools and nodes, one line each.
    pub(crate) unreadable: Vec<String>,
}

/// A node whose streams and calls are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) node: NodeName,
    pub(crate) by: String,
    pub(crate) since_unix_ms: u64,
}

/// A node whose claim is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The node of its id; else the name that its agent asks under.
    pub(crate) node: NodeName,
    /// The name that its agent asks under, if that belongs to another node id.
    pub(crate) asks_as: Option<NodeName>,
    pub(crate) why: String,
    pub(crate) since_unix_ms: u64,
}

/// A claim of a lost store that is not registered in the store that replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unregistered {
    pub(crate) node: NodeName,
    pub(crate) prefix: Prefix,
    /// Its pool in the lost store.
    pub(crate) pool: PoolName,
    /// The reason, with the fix.
    pub(crate) why: String,
}

/// The automatic backups of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backups {
    pub(crate) directory: String,
    pub(crate) every: Duration,
    /// When the last one was written; 0 if there is none.
    pub(crate) last_unix_ms: u64,
    /// The error of the last attempt; empty if it succeeded.
    pub(crate) failing: String,
    /// The newest backup of another store; empty: none.
    pub(crate) earlier: String,
}

/// Announced nodes that were forgotten within a window and are still absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removals {
    pub(crate) recent: u32,
    /// The largest permitted number.
    pub(crate) limit: u32,
    pub(crate) window: Duration,
    /// Nodes whose hold-down time is over, but whose claims the limit keeps.
    pub(crate) waiting: u32,
}

impl Cluster {
    /// Whether a controller has reported a problem of its own, or does not see the store.
    pub(crate) fn has_failing_controller(&self) -> bool {
        self.stale || self.controllers.iter().any(|controller| !controller.problems.is_empty())
    }

    /// The queried controller; none if it has an older version, which does not report it.
    pub(crate) fn asked(&self) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.asked)
    }
}

impl TryFrom<v1::StatusResponse> for Cluster {
    type Error = MessageError;

    fn try_from(message: v1::StatusResponse) -> Result<Self, MessageError> {
        let (pools, nodes) = (readable_pools(message.pools), readable_nodes(message.nodes));
        Ok(Self {
            name: message.cluster,
            store: message.store,
            incarnation: id("incarnation", &message.incarnation)?,
            revision: Revision(message.revision),
            stale: message.stale,
            recovering: message.recovering,
            paused: message.paused,
            restoring: message.restoring,
            other_histories: message
                .other_histories
                .into_iter()
                .map(|it| Ok((parse("node", &it.node)?, it.knows)))
                .collect::<Result<_, MessageError>>()?,
            revoked: all("revoked", message.revoked)?,
            tls: message.tls,
            plain: message.plain,
            refused: all("refused", message.refused)?,
            unregistered: all("unregistered", message.unregistered)?,
            silent: message.silent.iter().map(|name| parse("silent", name)).collect::<Result<_, _>>()?,
            controllers: message.controllers.into_iter().map(Into::into).collect(),
            pools: pools.items,
            nodes: nodes.items,
            routers: all("routers", message.routers)?,
            reserved: all("reserved", message.reserved)?,
            removals: message.removals.map(Into::into).unwrap_or_default(),
            backups: message.backups.map(Into::into),
            unreadable: [pools.unreadable, nodes.unreadable].concat(),
        })
    }
}

impl Refused {
    /// The node that is refused; none if its agent's node id belongs to no node.
    pub(crate) fn node(&self) -> Option<&NodeName> {
        Some(&self.node).filter(|node| self.asks_as.as_ref() != Some(node))
    }
}

impl fmt::Display for Unregistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, prefix, pool, why } = self;
        write!(f, "node {node}, {prefix} (pool {pool}): {why}")
    }
}

impl TryFrom<v1::RevokedNode> for Revoked {
    type Error = MessageError;

    fn try_from(message: v1::RevokedNode) -> Result<Self, MessageError> {
        let v1::RevokedNode { node, by, since_unix_ms } = message;
        Ok(Self { node: parse("node", &node)?, by, since_unix_ms })
    }
}

impl TryFrom<v1::UnregisteredClaim> for Unregistered {
    type Error = MessageError;

    fn try_from(message: v1::UnregisteredClaim) -> Result<Self, MessageError> {
        let v1::UnregisteredClaim { node, prefix, pool, why } = message;
        let (node, pool) = (parse("node", &node)?, parse("pool", &pool)?);
        Ok(Self { node, prefix: required("prefix", prefix)?, pool, why })
    }
}

impl TryFrom<v1::RefusedNode> for Refused {
    type Error = MessageError;

    fn try_from(message: v1::RefusedNode) -> Result<Self, MessageError> {
        let v1::RefusedNode { node, why, since_unix_ms, asks_as } = message;
        let asks_as = (!asks_as.is_empty()).then(|| parse("asks_as", &asks_as)).transpose()?;
        Ok(Self { node: parse("node", &node)?, asks_as, why, since_unix_ms })
    }
}

impl From<v1::AutomaticBackups> for Backups {
    fn from(message: v1::AutomaticBackups) -> Self {
        Self {
            directory: message.directory,
            every: Duration::from_millis(message.every_ms),
            last_unix_ms: message.last_unix_ms,
            failing: message.failing,
            earlier: message.earlier,
        }
    }
}

impl From<v1::Removals> for Removals {
    fn from(message: v1::Removals) -> Self {
        Self {
            recent: message.recent,
            limit: message.limit,
            window: Duration::from_millis(message.window_ms),
            waiting: message.waiting,
        }
    }
}

impl TryFrom<v1::Router> for Router {
    type Error = MessageError;

    fn try_from(message: v1::Router) -> Result<Self, MessageError> {
        let applied = message.applied.map(Applied::try_from).transpose()?;
        Ok(Self { name: parse("name", &message.name)?, applied })
    }
}

impl From<v1::Controller> for Controller {
    fn from(message: v1::Controller) -> Self {
        Self {
            id: message.id,
            address: message.address,
            version: message.version,
            problems: message.problems.into_iter().map(Into::into).collect(),
            asked: message.asked,
        }
    }
}
