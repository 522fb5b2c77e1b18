//! Why a route is to change, or why there is none. Pure.

use sextant_proto::{Peer, Pool, Prefix};

use super::{Assessment, Facts, Known, PeerState, Planned, Subjects};
use crate::kernel::{Change, RouteKey, RouteTarget};

/// What a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A prefix that a router announces.
    Router,
    /// Another node, and what is decided of it.
    Peer(&'a Peer, PeerState),
    /// This node's own prefix.
    Own,
    /// The prefix of a pool.
    Pool(&'a Pool),
    /// Nothing that is known.
    Unknown,
}

/// Why a route is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A router announces it.
    Imported,
    /// There was one, and another process has removed it.
    Removed,
    /// The host of the peer is dead.
    Dead,
    /// There is none yet.
    New,
    /// The host was dead, and is back.
    Back,
    /// The path is another one than this.
    OtherPath(&'a RouteTarget),
    /// Another process has changed it.
    Changed,
    /// No router announces it any more.
    NoLongerImported,
    /// The route to its destination is this one.
    Elsewhere(RouteKey),
    /// This node is drained.
    Withdrawn,
    /// The state of the peer, or that it is this node.
    PeerState(&'a Peer, PeerState),
    /// The pool's unassigned prefixes are not refused here any more.
    NotRefused,
    /// No node has it any more.
    Released,
    /// This process has never wanted it.
    LeftOver,
}

/// What the route of `key` is for.
pub(super) fn owner<'a>(known: &Known<'a>, subjects: &Subjects<'a>, key: &RouteKey) -> Owner<'a> {
    let destination = key.destination;
    if is_imported(known, key) {
        Owner::Router
    } else if let Some((peer, claim)) =
        subjects.peer(destination).filter(|(peer, _)| peer.name != *known.node)
    {
        Owner::Peer(peer, Assessment::of(known, peer).of_claim(known, claim))
    } else if subjects.is_own(destination) {
        Owner::Own
    } else {
        subjects.pool(destination).map_or(Owner::Unknown, Owner::Pool)
    }
}

/// Why the change is to be made.
pub(super) fn reason<'a>(facts: &Facts<'a>, subjects: &Subjects<'a>, planned: &Planned) -> Reason<'a> {
    let key = planned.change.route().key;
    let owner = owner(facts.known, subjects, &key);
    match &planned.change {
        Change::Add(_) => of_addition(facts, owner, planned),
        Change::Replace(route) => of_replacement(facts, owner, &key, &route.target),
        Change::Delete(_) => of_removal(facts, subjects, &key),
    }
}

fn of_addition<'a>(facts: &Facts<'a>, owner: Owner<'a>, planned: &Planned) -> Reason<'a> {
    let (key, memory) = (planned.change.route().key, facts.memory);
    let failed = || memory.failures.of(&planned.change).is_some();
    match owner {
        Owner::Router => Reason::Imported,
        _ if memory.wanted.knows(&key) && !failed() && !facts.actual.foreign.contains_key(&key) => {
            Reason::Removed
        }
        Owner::Peer(_, PeerState::Dead) => Reason::Dead,
        _ => Reason::New,
    }
}

fn of_replacement<'a>(
    facts: &Facts<'a>,
    owner: Owner<'a>,
    key: &RouteKey,
    target: &RouteTarget,
) -> Reason<'a> {
    match (facts.actual.ours.get(key), target) {
        (_, RouteTarget::Unreachable) if matches!(owner, Owner::Peer(_, PeerState::Dead)) => Reason::Dead,
        (Some(RouteTarget::Unreachable), RouteTarget::Via(_)) => Reason::Back,
        (Some(standing @ RouteTarget::Via(_)), RouteTarget::Via(_)) => Reason::OtherPath(standing),
        _ => Reason::Changed,
    }
}

fn of_removal<'a>(facts: &Facts<'a>, subjects: &Subjects<'a>, key: &RouteKey) -> Reason<'a> {
    let known = facts.known;
    if is_imported(known, key) {
        return Reason::NoLongerImported;
    }
    if let Some(other) = elsewhere(facts, key.destination) {
        return Reason::Elsewhere(other);
    }
    if known.withdrawn {
        return Reason::Withdrawn;
    }
    if let Some((peer, claim)) = subjects.peer(key.destination) {
        return Reason::PeerState(peer, Assessment::of(known, peer).of_claim(known, claim));
    }
    if subjects.pool(key.destination).is_some() {
        Reason::NotRefused
    } else if facts.memory.wanted.knows(key) {
        Reason::Released
    } else {
        Reason::LeftOver
    }
}

/// A route to the same destination that should be.
fn elsewhere(facts: &Facts<'_>, destination: Prefix) -> Option<RouteKey> {
    let desired = &facts.desired.routes;
    let in_table = |table| desired.deciding(&RouteKey { table, destination, metric: 0 });
    desired.tables().find_map(in_table).map(|(key, _)| *key)
}

fn is_imported(known: &Known<'_>, key: &RouteKey) -> bool {
    known.imports.metric == key.metric
}
