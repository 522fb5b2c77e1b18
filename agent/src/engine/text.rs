//! Changes, their reasons and what they wait for, as text. Pure.

use tokio::time::Instant;

use crate::{
    advice::{about_route, in_table, leads},
    kernel::{Change, Link, OwnRoute, RouteKey, RouteProtocol, RouteTarget},
    routes::{Failures, Hold, Owner, PeerState, Planned, Reason},
};

/// Why a change is to be made.
pub(super) fn why(owner: Owner<'_>, reason: Reason<'_>, change: &Change, links: &[Link]) -> String {
    let whose = whose(owner);
    match reason {
        Reason::Imported => "a router announces it".into(),
        Reason::Removed => format!("{whose}: somebody has removed its route"),
        Reason::Dead => format!("{whose}: its host is dead"),
        Reason::New if matches!(change.route().target, RouteTarget::Via(_)) => {
            format!("{whose} has no route yet")
        }
        Reason::New => format!("{whose} is not refused yet"),
        Reason::Back => format!("{whose} is back: it was refused"),
        Reason::OtherPath(standing) => {
            format!("{whose}: its next hop is another one than{}", leads(standing, links))
        }
        Reason::Changed => format!("{whose}: somebody has changed it"),
        Reason::NoLongerImported => "no router announces it any more".into(),
        Reason::Elsewhere(other) => format!("wanted with metric {} in table {}", other.metric, other.table),
        Reason::Withdrawn => "this node is drained".into(),
        Reason::PeerState(_, PeerState::Own) => "this node's own prefix".into(),
        Reason::PeerState(peer, PeerState::NotReady(state)) => format!("peer {} is {state}", peer.name),
        Reason::PeerState(peer, PeerState::LeftToRouter | PeerState::NoUplink) => {
            format!("peer {} is not on-link any more: it is left to the router", peer.name)
        }
        Reason::PeerState(peer, PeerState::OffLink) => {
            format!("peer {} is not on-link any more: traffic to it is refused", peer.name)
        }
        Reason::PeerState(peer, PeerState::Infrastructure) => {
            format!("the prefix of peer {} contains an address that this host's network stands on", peer.name)
        }
        Reason::PeerState(peer, _) => format!("peer {} is not routed this way", peer.name),
        Reason::NotRefused => "the pool's unused prefixes are not refused here any more".into(),
        Reason::Released => "no node has it any more".into(),
        Reason::LeftOver => "no node has it: left over, or made by somebody else in our name".into(),
    }
}

fn whose(owner: Owner<'_>) -> String {
    match owner {
        Owner::Router => "what a router announces".into(),
        Owner::Peer(peer, _) => format!("peer {}", peer.name),
        Owner::Own => "own prefix".into(),
        Owner::Pool(pool) => format!("pool {}", pool.name),
        Owner::Unknown => "pool".into(),
    }
}

/// What a change waits for, with the fix.
pub(super) fn waits(planned: &Planned, failures: &Failures, now: Instant) -> Option<String> {
    let secs = |until: Instant| until.saturating_duration_since(now).as_secs();
    Some(match planned.hold? {
        Hold::Blocked(protocol) => blocked(&planned.change.route().key, protocol),
        Hold::Premature => {
            "until the agent has heard of all peers: it would cover what another table still leads to".into()
        }
        Hold::Unconfirmed => {
            "until the agent has heard everything from a current controller, and the store's recovery window is closed"
                .into()
        }
        Hold::Braked => "the brake: too many peers are gone at once; look, then `sextant resume`".into(),
        Hold::Failed(due) => {
            let errno = failures.of(&planned.change).map(|(errno, _)| errno.to_string());
            format!("failed: {}; next try in {} s", errno.unwrap_or_default(), secs(due))
        }
        Hold::Damped(until) | Hold::Limited(until) => format!(
            "route repeatedly changed by another process: find it; next try in {} s",
            secs(until)
        ),
        Hold::Paused => "the end of the pause: `sextant resume`".into(),
    })
}

/// The kernel has room for one route of a key.
fn blocked(key: &RouteKey, protocol: RouteProtocol) -> String {
    let advice = about_route(key, protocol, None, &[key.destination]);
    format!("a route of proto {protocol} with the same metric has its place: {advice}")
}

/// A route of ours as `ip -6 route` shows it.
pub(super) fn shown(route: &OwnRoute, links: &[Link]) -> String {
    let OwnRoute { key, target } = route;
    let kind = if *target == RouteTarget::Unreachable { "unreachable " } else { "" };
    let (protocol, leads, table) = (sextant_proto::ROUTE_PROTOCOL, leads(target, links), in_table(key));
    format!("{kind}{}{leads} proto {protocol} metric {}{table}", key.destination, key.metric)
}
