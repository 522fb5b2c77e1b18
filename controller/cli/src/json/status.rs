//! The whole cluster.

use serde::Serialize;
use sextant_proto::{Incarnation, NodeName, PoolName, Prefix, Revision};

use super::{
    Node, Pool, filled, known,
    node::{Problem, Router},
};
use crate::{answer, troubles};

/// The cluster, and all problems that need an operator.
#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    well: bool,
    cluster: &'a str,
    store: &'a str,
    incarnation: Incarnation,
    revision: Revision,
    stale: bool,
    recovering: bool,
    paused: bool,
    restoring: bool,
    silent: &'a [NodeName],
    unregistered: Vec<Unregistered<'a>>,
    controllers: Vec<Controller<'a>>,
    pools: Vec<Pool<'a>>,
    nodes: Vec<Node<'a>>,
    routers: Vec<Router<'a>>,
    backups: Option<Backups<'a>>,
    revoked: Vec<Revoked<'a>>,
    tls: Option<&'a str>,
    plain: &'a [String],
    troubles: Vec<Trouble>,
}

/// A node whose streams and calls are refused.
#[derive(Debug, Serialize)]
struct Revoked<'a> {
    node: &'a NodeName,
    by: &'a str,
    since_unix_ms: u64,
}

/// A claim of a lost store that is not registered.
#[derive(Debug, Serialize)]
pub(crate) struct Unregistered<'a> {
    node: &'a NodeName,
    host_prefix: Prefix,
    pool: &'a PoolName,
    why: &'a str,
}

/// A controller.
#[derive(Debug, Serialize)]
struct Controller<'a> {
    id: &'a str,
    address: &'a str,
    version: &'a str,
    asked: bool,
    problems: Vec<Problem<'a>>,
}

/// The automatic backups of a controller.
#[derive(Debug, Serialize)]
struct Backups<'a> {
    directory: &'a str,
    every_ms: u64,
    last_unix_ms: Option<u64>,
    failing: Option<&'a str>,
    earlier: Option<&'a str>,
}

/// A problem that needs an operator.
#[derive(Debug, Serialize)]
struct Trouble {
    kind: &'static str,
    node: Option<NodeName>,
    text: String,
    what: Option<String>,
    since_unix_ms: Option<u64>,
}

impl<'a> From<&'a answer::Cluster> for Status<'a> {
    fn from(cluster: &'a answer::Cluster) -> Self {
        let troubles = troubles::troubles(cluster);
        Self {
            well: troubles.is_empty(),
            cluster: &cluster.name,
            store: &cluster.store,
            incarnation: cluster.incarnation,
            revision: cluster.revision,
            stale: cluster.stale,
            recovering: cluster.recovering,
            paused: cluster.paused,
            restoring: cluster.restoring,
            silent: &cluster.silent,
            unregistered: cluster.unregistered.iter().map(Unregistered::from).collect(),
            controllers: cluster.controllers.iter().map(Controller::from).collect(),
            pools: cluster.pools.iter().map(Pool::from).collect(),
            nodes: cluster.nodes.iter().map(|it| Node::new(it, cluster)).collect(),
            routers: cluster.routers.iter().map(|it| Router::new(it, cluster)).collect(),
            backups: cluster.backups.as_ref().map(Backups::from),
            revoked: cluster.revoked.iter().map(Revoked::from).collect(),
            tls: filled(&cluster.tls),
            plain: &cluster.plain,
            troubles: troubles.iter().map(Trouble::from).collect(),
        }
    }
}

impl<'a> From<&'a answer::Unregistered> for Unregistered<'a> {
    fn from(claim: &'a answer::Unregistered) -> Self {
        let answer::Unregistered { node, prefix, pool, why } = claim;
        Self { node, host_prefix: *prefix, pool, why }
    }
}

impl<'a> From<&'a answer::Revoked> for Revoked<'a> {
    fn from(revoked: &'a answer::Revoked) -> Self {
        let answer::Revoked { node, by, since_unix_ms } = revoked;
        Self { node, by, since_unix_ms: *since_unix_ms }
    }
}

impl<'a> From<&'a answer::Controller> for Controller<'a> {
    fn from(controller: &'a answer::Controller) -> Self {
        let answer::Controller { id, address, version, problems, asked } = controller;
        Self { id, address, version, asked: *asked, problems: problems.iter().map(Problem::from).collect() }
    }
}

impl<'a> From<&'a answer::Backups> for Backups<'a> {
    fn from(backups: &'a answer::Backups) -> Self {
        Self {
            directory: &backups.directory,
            every_ms: u64::try_from(backups.every.as_millis()).unwrap_or(u64::MAX),
            last_unix_ms: known(backups.last_unix_ms),
            failing: filled(&backups.failing),
            earlier: filled(&backups.earlier),
        }
    }
}

impl From<&troubles::Trouble> for Trouble {
    fn from(trouble: &troubles::Trouble) -> Self {
        Self {
            kind: trouble.kind(),
            node: trouble.node().cloned(),
            text: trouble.to_string(),
            what: trouble.what().map(str::to_owned),
            since_unix_ms: trouble.since_unix_ms(),
        }
    }
}
