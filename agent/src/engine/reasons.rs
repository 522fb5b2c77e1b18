//! Why a route is to change, in words. Pure.

use sextant_proto::{NodeState, Peer};

use super::{preview::leads, wanted::Wanted};
use crate::{
    cluster::{Input, Verdicts},
    kernel::{Change, Link, RouteKey, RouteTarget},
    routes::{Actual, Desired},
    settings::Settings,
    uplinks::{LocalUplink, ways},
};

/// All that the reasons are read from.
pub(super) struct Reasons<'a> {
    pub(super) settings: &'a Settings,
    pub(super) input: &'a Input,
    pub(super) verdicts: &'a Verdicts,
    pub(super) uplinks: &'a [LocalUplink],
    pub(super) desired: &'a Desired,
    pub(super) actual: &'a Actual,
    /// What the engine has wanted before.
    pub(super) wanted: &'a Wanted,
}

impl Reasons<'_> {
    /// Why; `failed` says that the kernel has refused it before.
    pub(super) fn why(&self, change: &Change, failed: bool, links: &[Link]) -> String {
        let route = change.route();
        match change {
            Change::Add(_) => self.why_add(&route.key, &route.target, failed),
            Change::Replace(_) => self.why_replace(&route.key, &route.target, links),
            Change::Delete(_) => self.why_delete(&route.key),
        }
    }

    fn why_add(&self, key: &RouteKey, target: &RouteTarget, failed: bool) -> String {
        if self.is_imported(key) {
            return "a router announces it".into();
        }
        let whose = self.whose(key);
        if self.wanted.knows(key) && !failed && !self.actual.foreign.contains_key(key) {
            return format!("{whose}: somebody has removed its route");
        }
        match self.peer(key) {
            Some(_) if *target == RouteTarget::Unreachable => format!("{whose}: its host is dead"),
            Some(_) => format!("{whose} has no route yet"),
            None => format!("{whose} is not refused yet"),
        }
    }

    fn why_replace(&self, key: &RouteKey, target: &RouteTarget, links: &[Link]) -> String {
        let whose = self.whose(key);
        let Some(standing) = self.actual.ours.get(key) else {
            return whose;
        };
        match (standing, target) {
            (_, RouteTarget::Unreachable) if self.is_dead(key) => format!("{whose}: its host is dead"),
            (RouteTarget::Unreachable, RouteTarget::Via(_)) => format!("{whose} is back: it was refused"),
            (RouteTarget::Via(_), RouteTarget::Via(_)) => {
                format!("{whose}: its next hop is another one than{}", leads(standing, links))
            }
            _ => format!("{whose}: somebody has changed it"),
        }
    }

    fn why_delete(&self, key: &RouteKey) -> String {
        if self.is_imported(key) {
            return "no router announces it any more".into();
        }
        let elsewhere = |other: &&RouteKey| other.destination == key.destination;
        if let Some(other) = self.desired.routes.keys().find(elsewhere) {
            return format!("wanted with metric {} in table {}", other.metric, other.table);
        }
        match self.peer(key) {
            _ if self.input.withdrawn => "this node is drained".into(),
            Some(peer) if peer.name == self.settings.node => "this node's own prefix".into(),
            Some(peer) if peer.state != NodeState::Ready => format!("peer {} is {}", peer.name, peer.state),
            Some(peer) if ways(self.uplinks, peer).next().is_none() => {
                format!("peer {} is not on-link any more: it is left to the router", peer.name)
            }
            Some(peer) => format!("peer {} is not routed this way", peer.name),
            None if self.is_pools(key) => "the pool's unused prefixes are not refused here any more".into(),
            None if self.wanted.knows(key) => "no node has it any more".into(),
            None => "no node has it: left over, or made by somebody else in our name".into(),
        }
    }

    fn is_imported(&self, key: &RouteKey) -> bool {
        self.settings.bgp.as_ref().is_some_and(|bgp| bgp.import_metric == key.metric)
    }

    fn whose(&self, key: &RouteKey) -> String {
        if self.is_imported(key) {
            return "what a router announces".into();
        }
        if let Some(peer) = self.peer(key).filter(|peer| peer.name != self.settings.node) {
            return format!("peer {}", peer.name);
        }
        if self.input.claim.as_ref().is_some_and(|claim| claim.prefix == key.destination) {
            return "own prefix".into();
        }
        let pool = self.input.view.pools().find(|pool| pool.prefix == key.destination);
        pool.map_or_else(|| "pool".into(), |pool| format!("pool {}", pool.name))
    }

    fn peer(&self, key: &RouteKey) -> Option<&Peer> {
        self.input.view.peers().find(|peer| peer.prefix == key.destination)
    }

    fn is_dead(&self, key: &RouteKey) -> bool {
        self.peer(key).is_some_and(|peer| self.verdicts.is_dead(peer))
    }

    fn is_pools(&self, key: &RouteKey) -> bool {
        self.input.view.pools().any(|pool| pool.prefix == key.destination)
    }
}
