//! The problems of peers and pools that the desired routes show. Pure.

use super::{Desired, Known, Unreached, aggregates::unrefused_pool, shared_hops::shared_next_hops};
use crate::{advice::about_infrastructure, problems::Finding};

/// All of them. `desired` is what is desired by what is `known`.
pub fn findings(known: &Known<'_>, desired: &Desired) -> Vec<Finding> {
    let unreached = &desired.unreached;
    let all = [
        shared_next_hops(known),
        unrefused_pool(known),
        diverted(unreached),
        off_link(unreached),
        infrastructure(known, unreached),
    ];
    all.into_iter().flatten().collect()
}

/// A peer on the link, to which another process has set a route elsewhere.
fn diverted(unreached: &Unreached) -> Option<Finding> {
    let (node, hop, by) = unreached.diverted.as_ref()?;
    Some(Finding::new(
        "next-hop-diverted",
        format!(
            "next hop {hop} of node {node} is on the link of this host, but a route of another process to {by} takes packets to it \
             elsewhere, so packets to prefixes of {node} are refused"
        ),
        format!(
            "remove that route (`ip -6 route show table all to match {hop}` on this host shows it), also where it is configured; if \
             {node} is to be reached through a router, and routers know the host prefixes, set [routes] off-link = \"gateway\" in \
             agent.toml here, and restart sextant-agent"
        ),
    ))
}

/// Peers that this host has no path to, though they are ready.
fn off_link(unreached: &Unreached) -> Option<Finding> {
    let names = unreached.off_link()?;
    Some(Finding::new(
        "peers-off-link",
        format!("not on-link on any uplink, so packets to their prefixes are refused: {names}"),
        "if routers know the host prefixes, set [routes] off-link = \"gateway\" in agent.toml (--routes-off-link) here and there, \
         or topology = \"routed\" if all hosts are behind routers; else set [uplink] interface in agent.toml of those nodes to \
         the link that this host is on; restart sextant-agent after a change (their next hops: sextant node show NAME)",
    ))
}

/// A peer's prefix in which there is an address that this host depends on.
fn infrastructure(known: &Known<'_>, unreached: &Unreached) -> Option<Finding> {
    let (node, pool, prefix) = unreached.infrastructure.as_ref()?;
    let addr = known.infrastructure.inside(*prefix)?;
    Some(Finding::new(
        "prefix-with-infrastructure",
        format!(
            "host prefix {prefix} of node {node} contains {addr}, which this host's network stands on (its uplink, link, router \
             or controller); it is not routed here"
        ),
        about_infrastructure(*prefix, "that host", node, pool),
    ))
}
