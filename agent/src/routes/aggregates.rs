//! The pools that are refused as a whole. No peer's words matter for that (DESIGN I14). Pure.

use sextant_proto::{Pool, Prefix};

use super::Known;
use crate::{kernel::MAIN_TABLE, problems::Finding, settings::Topology};

/// The prefixes of the pools that this host refuses, but for longer routes inside.
pub fn refused_pools<'a>(known: &Known<'a>) -> impl Iterator<Item = Prefix> + use<'a> {
    let known = *known;
    let routers_refuse = known.routers_refuse();
    let refused = move |pool: &&Pool| !routers_refuse && captured(&known, pool).is_none();
    known.pools().filter(refused).map(|pool| pool.prefix)
}

/// Pools that are not refused here because of what is inside of them.
pub fn unrefused_pool(known: &Known<'_>) -> Option<Finding> {
    if known.routers_refuse() {
        return None;
    }
    let mut open = known.pools().filter(|pool| !is_resolved_on_link(known, pool));
    let (pool, captured) = open.find_map(|pool| Some((pool, captured(known, pool)?)))?;
    Some(Finding::new(
        "pool-not-refused",
        format!(
            "packets to unassigned addresses of pool {} {} are not refused here: {captured} is in it, or it is in that",
            pool.name, pool.prefix
        ),
        format!(
            "move the cluster to a pool without hosts, links and controllers: sextant pool add NAME PREFIX --host-len {} \
             --container-len {}; sextant pool drain {old}; on each host, set pool = [\"NAME\", \"{old}\"] in agent.toml (--pool), \
             restart sextant-agent, and create the containers again; then set pool = \"NAME\" in agent.toml, restart it, and end the old claim: \
             sextant node forget NODE --pool {old} --force; at last sextant pool remove {old}",
            pool.host_len,
            pool.container_len,
            old = pool.name
        ),
    ))
}

/// A pool inside of the link's own prefix, as NDP proxies serve: packets to its unassigned addresses are refused once nobody on the
/// link has answered for them.
fn is_resolved_on_link(known: &Known<'_>, pool: &Pool) -> bool {
    let mut links = known.uplinks.iter().flat_map(|local| local.on_link.prefixes());
    known.settings.topology == Topology::NdpProxy && links.any(|link| link.covers(pool.prefix))
}

/// What an unreachable route to the pool would take: a link that is not longer than the pool, or a controller that is no
/// neighbour. A longer link route of the same table comes before it.
fn captured(known: &Known<'_>, pool: &Pool) -> Option<String> {
    let here = known.settings.table == MAIN_TABLE;
    let is_taken = |link: &Prefix| link.overlaps(pool.prefix) && !(here && link.len() >= pool.prefix.len());
    let mut links = known.uplinks.iter().flat_map(|local| local.on_link.prefixes());
    let is_neighbour = |addr| here && known.uplinks.iter().any(|local| local.on_link.contains(addr));
    let mut controllers = known.controllers.iter().filter(|addr| pool.prefix.contains(**addr));
    let link = links.find(is_taken).map(|link| format!("link {link}"));
    link.or_else(|| controllers.find(|addr| !is_neighbour(**addr)).map(|addr| format!("controller {addr}")))
}
