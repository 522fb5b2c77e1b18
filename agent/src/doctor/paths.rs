//! Reads what may keep packets from the paths of this host: routes to its links, link-local addresses, and rules of the routing
//! policy. The decisions are those of the agent.

use std::collections::BTreeSet;

use sextant_proto::{Claim, Prefix};

use crate::{
    host::{findings::Facts, link_local},
    kernel::{Kernel, KernelError, Link, MAIN_TABLE, RouteTarget, Scope},
    problems::Finding,
    routes::{Foreign, ForeignReader, Place, Policy, container_links, is_judged, networks, selected},
    settings::HostSettings,
    uplinks::{self, LocalUplink, local_uplinks, read_link_routes},
};

/// All of them, as the agent reports them, and the problems of the uplinks themselves.
pub(super) async fn findings(
    kernel: &dyn Kernel,
    host: &HostSettings,
    claims: &[Claim],
    facts: &Facts,
) -> Result<Vec<Finding>, KernelError> {
    let names = if host.uplinks.is_empty() { towards(host, facts) } else { host.uplinks.clone() };
    let routes = read_link_routes(kernel, host.table, &host.controllers).await?;
    let local = local_uplinks(&names, &facts.links, &facts.addresses, &routes);
    let mut found = uplinks::findings(&names, &facts.links, &facts.addresses, &local);
    found.extend(uplinks::hidden(&local, &routes));
    let uplinks = facts.links.iter().filter(|link| names.contains(&link.name));
    found.extend(uplinks.filter_map(|link| link_local::without("uplink", link, &facts.addresses)));
    found.extend(of_rules(kernel, host, claims, facts, &local).await?);
    Ok(found)
}

/// The links with an address on whose prefix a controller is. No route says so once it is removed.
fn towards(host: &HostSettings, facts: &Facts) -> Vec<String> {
    let leads = |link: &&Link| {
        let prefixes = facts.addresses.iter().filter(|it| it.link == link.index && it.global);
        let mut prefixes = prefixes.filter_map(|it| Prefix::containing(it.addr, it.len));
        prefixes.any(|prefix| host.controllers.iter().any(|controller| prefix.contains(*controller)))
    };
    facts.links.iter().filter(leads).map(|link| link.name.clone()).collect()
}

async fn of_rules(
    kernel: &dyn Kernel,
    host: &HostSettings,
    claims: &[Claim],
    facts: &Facts,
    uplinks: &[LocalUplink],
) -> Result<Vec<Finding>, KernelError> {
    if !is_judged(&facts.rules) {
        return Ok(Vec::new());
    }
    let others = read(kernel, selected(&facts.rules, host.table).collect()).await?;
    let connected = read(kernel, BTreeSet::from([host.table, MAIN_TABLE])).await?;
    let pools: Vec<Prefix> = claims.iter().map(|claim| claim.pool.prefix).collect();
    let on = container_links(claims, &host.bridge, &facts.links, &facts.addresses, uplinks);
    let networks = networks(&connected, claims, &on);
    let ours = kernel.routes(Scope::Ours).await?;
    let to_peer = ours.iter().filter(|route| {
        let to = route.key.destination;
        matches!(route.target, RouteTarget::Via(_)) && pools.iter().any(|pool| pool.covers(to))
    });
    let global = facts.addresses.iter().filter(|address| address.global);
    let place = Place {
        own: claims.iter().map(|claim| claim.prefix).collect(),
        networks: &networks,
        peers: to_peer.map(|route| (route.key.destination, Some(&route.target))).collect(),
        inside: facts.links.iter().filter(|it| on.contains(&it.index)).map(|it| it.name.as_str()).collect(),
        outside: uplinks.iter().map(|local| local.uplink.interface.as_str()).collect(),
        addresses: global.filter_map(|it| Prefix::containing(it.addr, 128)).collect(),
    };
    let policy = Policy { rules: &facts.rules, table: host.table, others: &others };
    Ok(policy.findings(&place.flows(), &pools, &facts.links))
}

/// Others' routes in these tables.
async fn read(kernel: &dyn Kernel, tables: BTreeSet<u32>) -> Result<Foreign, KernelError> {
    let mut found = Foreign::new();
    for table in tables {
        let mut reader = ForeignReader::default();
        kernel.read_routes(Scope::Table(table), &mut reader).await?;
        found.append(&mut reader.found);
    }
    Ok(found)
}
