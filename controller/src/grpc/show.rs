//! The state of the controller for operators.

use sextant_proto::{NodeName, NodeState, Peer, Pool, Prefix, VERSION, brake::WINDOW, v1};

use super::{Services, recovery};
use crate::{
    backup::Automatic,
    controllers::Other,
    health,
    index::{Kind, State, View},
    records::{DenialRecord, DoubtRecord, NodeRecord, ReservationRecord, TlsMode},
    refusals::Refused,
    removals::Window,
    reservations::pool_of,
    unregistered::Unregistered,
};

/// All pools and their use.
pub(super) fn pools(state: &State) -> Vec<v1::PoolUse> {
    let pool_use = |pool: &Pool| v1::PoolUse {
        pool: Some(pool.into()),
        claimed: state.holdings().claims_in(pool) as u64,
        capacity: u64::try_from(pool.capacity()).unwrap_or(u64::MAX),
        reserved: state.holdings().reservations_in(pool).count() as u64,
        quarantined: state.holdings().occupied().count(pool.prefix, Kind::Quarantined).into(),
    };
    state.pools().values().map(|pool| pool_use(&pool.record)).collect()
}

/// All reservations.
pub(super) fn reservations(state: &State) -> Vec<v1::Reservation> {
    let reservation = |(prefix, view): (&Prefix, &View<ReservationRecord>)| {
        let record = &view.record;
        let pools = state.pools().values().map(|pool| &pool.record);
        let claim = state.claims().get(prefix);
        v1::Reservation {
            prefix: Some((*prefix).into()),
            node: record.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: record.reason.clone(),
            created_unix_ms: record.created_unix_ms,
            pool: pool_of(pools, *prefix).map(ToString::to_string).unwrap_or_default(),
            claimed: claim.is_some_and(|claim| Some(&claim.record.node) == record.node.as_ref()),
        }
    };
    state.holdings().reservations().iter().map(reservation).collect()
}

/// All nodes that hold a claim.
pub(super) fn nodes(services: &Services) -> Vec<v1::Node> {
    services.index.read(|state| state.peers().keys().filter_map(|name| node(services, state, name)).collect())
}

pub(super) fn node(services: &Services, state: &State, name: &NodeName) -> Option<v1::Node> {
    let (peer, node) = (state.peers().get(name)?, &state.nodes().get(name)?.record);
    let (liveness, liveness_since_unix_ms) = liveness(state, peer);
    let claims: Vec<_> = peer.claims.iter().map(|claim| node_claim(state, node, claim.prefix)).collect();
    let primary = claims.first().cloned().unwrap_or_default();
    Some(v1::Node {
        peer: Some(peer.into()),
        node_id: node.node_id.into(),
        uplinks: node.uplinks.iter().map(Into::into).collect(),
        container_prefix: primary.container_prefixes.first().cloned(),
        down: !peer.session && node.state != NodeState::Joining,
        claimed_unix_ms: primary.claimed_unix_ms,
        claims,
        since_unix_ms: node.since_unix_ms,
        applied: services.acks.of(name).as_ref().map(Into::into),
        laggards: node.laggards.clone(),
        liveness: liveness.into(),
        liveness_since_unix_ms,
        stopped_unix_ms: if peer.session { 0 } else { node.stopped_unix_ms },
        superseded: services.sessions.superseded(name),
        duplicate_from: services
            .sessions
            .duplicate(name)
            .or_else(|| services.others.duplicate(name))
            .unwrap_or_default(),
        unknown: false,
        revoked: state.denials().contains_key(name),
    })
}

fn node_claim(state: &State, node: &NodeRecord, prefix: Prefix) -> v1::NodeClaim {
    let claimed = state.claims().get(&prefix).map(|claim| claim.record.claimed_unix_ms);
    v1::NodeClaim {
        container_prefixes: container_prefixes(state, node, prefix).into_iter().map(Into::into).collect(),
        claimed_unix_ms: claimed.unwrap_or_default(),
    }
}

/// The container prefixes of a claim, as its agent announces them. Before that, the one that its pool gives it.
pub(super) fn container_prefixes(state: &State, node: &NodeRecord, prefix: Prefix) -> Vec<Prefix> {
    let Some(claim) = node.claim_of(prefix) else { return Vec::new() };
    if !claim.container_prefixes.is_empty() {
        return claim.container_prefixes.clone();
    }
    let pool = state.pools().get(&claim.pool).map(|pool| &pool.record);
    let first = |pool: &Pool| prefix.nth(pool.container_len.max(prefix.len()), 0);
    pool.and_then(first).into_iter().collect()
}

/// The state of a node's agent and host, and since when its peers report it.
fn liveness(state: &State, peer: &Peer) -> (v1::Liveness, u64) {
    match state.verdict(&peer.name) {
        _ if peer.session => (v1::Liveness::Up, 0),
        Some(seen) if seen.forwarding => (v1::Liveness::ForwardingWithoutAgent, seen.since_unix_ms),
        Some(seen) => (v1::Liveness::Dead, seen.since_unix_ms),
        None => (v1::Liveness::Unknown, 0),
    }
}

/// The whole cluster.
pub(super) fn status(
    services: &Services,
    own: &health::State,
    others: &[Other],
    unregistered: &[Unregistered],
) -> v1::StatusResponse {
    let mut nodes = nodes(services);
    let silent = others.iter().any(|other| other.silent);
    mark_waiting(&mut nodes, own.stale || silent);
    mark_unknown(&mut nodes, own.stale, silent);
    let refused = services.refusals.list().into_iter().map(refused).collect();
    let other_histories = services.index.read(|state| state.doubts().map(other_history).collect());
    services.index.read(|state| v1::StatusResponse {
        other_histories,
        incarnation: state.meta().incarnation.into(),
        revision: state.published().0,
        stale: own.stale,
        controllers: controllers(services, own, others),
        pools: pools(state),
        nodes,
        recovering: state.meta().recovering,
        cluster: services.cluster.clone(),
        store: services.registry.describe(),
        paused: state.control().paused,
        restoring: state.meta().restoring,
        silent: recovery::silent(services, state, silent).iter().map(ToString::to_string).collect(),
        routers: routers(services, state),
        removals: Some(removals(services, state)),
        backups: backups(&services.backups),
        refused,
        unregistered: unregistered.iter().map(Into::into).collect(),
        reserved: state.holdings().reservations().keys().map(|prefix| (*prefix).into()).collect(),
        revoked: state.denials().iter().map(revoked).collect(),
        tls: services.sessions.identity().tls.to_string(),
        plain: plain(services.sessions.identity().tls, state),
    })
}

fn revoked((node, denial): (&NodeName, &View<DenialRecord>)) -> v1::RevokedNode {
    let DenialRecord { denied_unix_ms, by, .. } = &denial.record;
    v1::RevokedNode { node: node.to_string(), since_unix_ms: *denied_unix_ms, by: by.clone() }
}

/// Who uses plain text, or takes nothing else, as long as a controller that takes TLS takes plain text beside it.
fn plain(mode: TlsMode, state: &State) -> Vec<String> {
    if mode != TlsMode::Warn {
        return Vec::new();
    }
    let controllers = state.controllers().iter().filter(|(_, it)| it.record.tls == Some(TlsMode::Off));
    let controllers = controllers.map(|(id, it)| format!("controller {id} at {}", it.record.address));
    let agents = state.sessions().iter().filter(|(_, session)| session.record.serial.is_empty());
    let agents = agents.map(|(name, _)| match state.nodes().contains_key(name) {
        true => format!("node {name}"),
        false => format!("router {name}"),
    });
    controllers.chain(agents).collect()
}

fn refused(refused: Refused) -> v1::RefusedNode {
    let Refused { node, asks_as, why, since_unix_ms } = refused;
    let asks_as = asks_as.map(|name| name.to_string()).unwrap_or_default();
    v1::RefusedNode { node: node.to_string(), why, since_unix_ms, asks_as }
}

fn other_history((node, doubt): (&NodeName, &DoubtRecord)) -> v1::OtherHistory {
    v1::OtherHistory { node: node.to_string(), knows: doubt.knows.clone() }
}

fn backups(backups: &Automatic) -> Option<v1::AutomaticBackups> {
    let (schedule, taken) = (backups.schedule()?, backups.taken());
    Some(v1::AutomaticBackups {
        directory: schedule.directory.display().to_string(),
        every_ms: u64::try_from(schedule.every.as_millis()).unwrap_or(u64::MAX),
        last_unix_ms: taken.last_unix_ms.unwrap_or_default(),
        failing: taken.failing.unwrap_or_default(),
        earlier: taken.earlier.map(|file| file.display().to_string()).unwrap_or_default(),
    })
}

fn removals(services: &Services, state: &State) -> v1::Removals {
    let tally = Window::of(state.removals(), state.peers(), state.elapsed()).tally();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    v1::Removals {
        recent: count(tally.recent),
        limit: count(tally.limit),
        window_ms: u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX),
        waiting: count(services.claims.waiting()),
    }
}

/// Connected agents that hold no prefix.
fn routers(services: &Services, state: &State) -> Vec<v1::Router> {
    let routers = state.sessions().keys().filter(|name| !state.nodes().contains_key(*name));
    let router = |name: &NodeName| v1::Router {
        name: name.to_string(),
        applied: services.acks.of(name).as_ref().map(Into::into),
    };
    routers.map(router).collect()
}

/// Marks the nodes without a session as up if their agents are connected, and report why they have not announced their prefixes.
/// Not if the acks may be `old`.
fn mark_waiting(nodes: &mut [v1::Node], old: bool) {
    let waits = |node: &v1::Node| node.applied.as_ref().is_some_and(|applied| !applied.problems.is_empty());
    for node in nodes.iter_mut().filter(|node| node.down && !old && waits(node)) {
        node.down = false;
        node.set_liveness(v1::Liveness::Up);
    }
}

/// Marks the nodes for which it is unknown whether their agents are connected. If the view of the controller is `stale`, these are
/// all nodes. Otherwise they are nodes without a session that a controller has an ack of, or that may be connected to a `silent`
/// controller.
fn mark_unknown(nodes: &mut [v1::Node], stale: bool, silent: bool) {
    for node in nodes {
        let lost = node.down && (node.applied.is_some() || silent);
        if stale || lost {
            (node.unknown, node.down) = (true, false);
            node.set_liveness(v1::Liveness::Unknown);
        }
    }
}

/// The queried controller first.
fn controllers(services: &Services, own: &health::State, others: &[Other]) -> Vec<v1::Controller> {
    let me = services.sessions.identity();
    let asked = v1::Controller {
        id: me.id.clone(),
        address: me.address.clone(),
        version: VERSION.to_owned(),
        problems: own.problems.iter().map(Into::into).collect(),
        asked: true,
    };
    let other = |other: &Other| v1::Controller {
        id: other.id.clone(),
        address: other.record.address.clone(),
        version: other.record.version.clone(),
        problems: other.problems.iter().map(Into::into).collect(),
        asked: false,
    };
    std::iter::once(asked).chain(others.iter().map(other)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_session(applied: Option<v1::Applied>) -> v1::Node {
        v1::Node { down: true, applied, ..v1::Node::default() }
    }

    #[test]
    fn a_connected_agent_that_reports_why_it_waits_is_neither_down_nor_unknown() {
        let problem = v1::Problem { what: "bridge-missing".into(), ..v1::Problem::default() };
        let waits = v1::Applied { problems: vec![problem], ..v1::Applied::default() };
        let cases = [
            (None, false, (true, false)),
            (Some(v1::Applied::default()), false, (false, true)),
            (Some(waits.clone()), false, (false, false)),
            (Some(waits), true, (false, true)),
        ];
        for (applied, silent, expected) in cases {
            let mut nodes = [without_session(applied.clone())];
            mark_waiting(&mut nodes, silent);
            mark_unknown(&mut nodes, false, silent);
            assert_eq!((nodes[0].down, nodes[0].unknown), expected, "{applied:?}, {silent}");
        }
    }
}
