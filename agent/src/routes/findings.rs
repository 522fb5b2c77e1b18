//! The problems of peers and pools that the desired routes show. Pure.

use sextant_proto::{NodeName, Peer};

use super::{
    Assessment, Known, PeerState, aggregates::unrefused_pool, peers::is_routed, shared_hops::shared_next_hops,
};
use crate::problems::Finding;

/// So many nodes are listed.
const LISTED: usize = 3;

/// All of them.
pub fn findings(known: &Known<'_>) -> Vec<Finding> {
    let all = [shared_next_hops(known), unrefused_pool(known), off_link(known), infrastructure(known)];
    all.into_iter().flatten().collect()
}

/// Peers that this host has no path to, though they are ready.
fn off_link(known: &Known<'_>) -> Option<Finding> {
    let refused = |peer: &&Peer| Assessment::of(known, peer).state == PeerState::OffLink;
    let names: Vec<_> = known.view.peers().filter(refused).map(|peer| &peer.name).collect();
    (!names.is_empty()).then(|| {
        Finding::new(
            "peers-off-link",
            format!("not on-link on any uplink, so packets to their prefixes are refused: {}", listed(&names)),
            "if routers know the host prefixes, set [routes] off-link = \"gateway\" in agent.toml (--routes-off-link) here and there, \
             or topology = \"routed\" if all hosts are behind routers; else set [uplink] interface in agent.toml of those nodes to \
             the link that this host is on; restart sextant-agent after a change (their next hops: sextant node show NAME)",
        )
    })
}

/// A peer's prefix in which there is an address that this host depends on.
fn infrastructure(known: &Known<'_>) -> Option<Finding> {
    let routed = known.view.peers().filter(|peer| is_routed(known.node, peer));
    let mut claims = routed.flat_map(|peer| peer.ready_claims().map(move |claim| (peer, claim)));
    let (peer, claim, addr) =
        claims.find_map(|(peer, claim)| Some((peer, claim, known.infrastructure.inside(claim.prefix)?)))?;
    Some(Finding::new(
        "prefix-with-infrastructure",
        format!(
            "host prefix {} of node {} contains {addr}, which this host's network stands on (its uplink, link, router or \
             controller); it is not routed here",
            claim.prefix, peer.name
        ),
        format!(
            "move that host to another prefix: sextant node reassign {} --pool {}, and create its containers again",
            peer.name, claim.pool
        ),
    ))
}

fn listed(names: &[&NodeName]) -> String {
    let first: Vec<_> = names.iter().take(LISTED).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(LISTED);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}
