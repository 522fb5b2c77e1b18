//! Reads what may keep neighbours on the link from this host's containers, where it answers for them (topology `ndp-proxy`).
//! The decisions are those of the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use sextant_ndp::{
    listen::{Heard, listen},
    proxy::Uplink,
};
use sextant_proto::{Claim, Prefix};

use crate::{
    host::{findings::Facts, privilege},
    kernel::{Address, Kernel, KernelError, Link, Neighbour, NeighbourState},
    ndp_faults::{checks, processes},
    problems::Finding,
    settings::HostSettings,
};

/// Containers answer within that; so does an agent add a missing entry.
const WITHIN: Duration = Duration::from_millis(1500);
/// How often is looked meanwhile.
const POLL: Duration = Duration::from_millis(100);
/// So many containers are asked.
const MOST: usize = 64;

/// All of them.
///
/// # Errors
/// If the kernel cannot be read.
pub(super) async fn findings(
    kernel: &dyn Kernel,
    host: &HostSettings,
    claims: &[Claim],
    facts: &Facts,
) -> Result<Vec<Finding>, KernelError> {
    let Some(source) = host.ndp_source else { return Ok(Vec::new()) };
    let prefixes: Vec<Prefix> = claims.iter().map(|claim| claim.prefix).collect();
    let mut found: Vec<_> = capability().into_iter().collect();
    found.extend(checks::other_proxies(&processes::other_proxies(), &prefixes));
    // The agent sets the host up once it has a claim.
    if prefixes.is_empty() {
        return Ok(found);
    }
    found.extend(checks::of_sysctls(&checks::wrong_sysctls(kernel, &present(host, facts))?));
    let uplinks: BTreeMap<_, _> = links(host, facts).map(|link| (link.index, link.name.clone())).collect();
    let in_use = in_use(kernel, facts, &uplinks, &prefixes).await?;
    found.extend(entries(kernel, &in_use, &uplinks, &prefixes).await?);
    let targets: Vec<_> = in_use.iter().copied().collect();
    let own = facts.links.iter().filter_map(|link| link.mac.as_slice().try_into().ok()).collect();
    let mut heard = Heard::default();
    for uplink in links(host, facts).filter_map(|link| uplink(link, &facts.addresses)) {
        match listen(uplink, &own, &targets).await {
            Ok(Heard { others, unheeded }) => {
                heard.others.extend(others);
                heard.unheeded.extend(unheeded);
            }
            // Without a privilege of its own, or on a link that is down, nothing can be heard.
            Err(error) => tracing::debug!(%error, link = uplink.link, "the link cannot be heard"),
        }
    }
    found.extend(checks::others(&heard.others));
    found.extend(checks::unheeded(&heard.unheeded, source));
    Ok(found)
}

/// Whether the agents that run here, or else this process, may hear solicitations.
fn capability() -> Option<Finding> {
    let agents = processes::agents();
    if let Some((pid, _)) = agents.iter().find(|(_, status)| !privilege::has_net_raw(status)) {
        return Some(checks::no_capability(&format!("sextant-agent (process {pid})")));
    }
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_missing = agents.is_empty() && !privilege::has_net_raw(&own);
    is_missing.then(|| checks::no_capability("this process"))
}

fn links<'a>(host: &'a HostSettings, facts: &'a Facts) -> impl Iterator<Item = &'a Link> {
    facts.links.iter().filter(|link| host.uplinks.contains(&link.name))
}

fn present(host: &HostSettings, facts: &Facts) -> Vec<String> {
    links(host, facts).map(|link| link.name.clone()).collect()
}

fn uplink(link: &Link, addresses: &[Address]) -> Option<Uplink> {
    let mut own = addresses.iter().filter(|it| it.link == link.index && !it.tentative && !it.dad_failed);
    let source = own.clone().find(|it| it.addr.is_unicast_link_local()).or_else(|| own.next())?.addr;
    let mac = link.mac.as_slice().try_into().ok()?;
    (link.up && link.carrier).then_some(Uplink { link: link.index, mac, source, kernel_hears: link.running })
}

/// The addresses in these prefixes that are in use on links other than the uplinks: those of the links themselves, and of
/// neighbours that answer there.
async fn in_use(
    kernel: &dyn Kernel,
    facts: &Facts,
    uplinks: &BTreeMap<u32, String>,
    prefixes: &[Prefix],
) -> Result<BTreeSet<Ipv6Addr>, KernelError> {
    let is_here = |link: u32, addr: Ipv6Addr| {
        !uplinks.contains_key(&link) && prefixes.iter().any(|prefix| prefix.contains(addr))
    };
    let own =
        facts.addresses.iter().filter(|it| !it.tentative && is_here(it.link, it.addr)).map(|it| it.addr);
    let mut in_use: BTreeSet<_> = own.collect();
    let bridges: BTreeSet<u32> =
        facts.addresses.iter().filter(|it| in_use.contains(&it.addr)).map(|it| it.link).collect();
    let seen = |all: Vec<Neighbour>| -> Vec<Neighbour> {
        all.into_iter().filter(|it| bridges.contains(&it.link) && is_here(it.link, it.addr)).collect()
    };
    // A container may be gone: each is asked. An agent that has not heard of one yet hears its answer, and adds the entry.
    let is_known = |it: &Neighbour| matches!(it.state, NeighbourState::Stale | NeighbourState::Reachable);
    for it in seen(kernel.all_neighbours().await?).into_iter().filter(is_known).take(MOST) {
        kernel.probe_neighbour(it.link, it.addr).await?;
    }
    let ends = tokio::time::Instant::now() + WITHIN;
    loop {
        let now = seen(kernel.all_neighbours().await?);
        let is_pending = now.iter().any(|it| it.state == NeighbourState::Probing && it.mac.is_some());
        if !is_pending || tokio::time::Instant::now() >= ends {
            in_use.extend(now.iter().filter(|it| it.state == NeighbourState::Reachable).map(|it| it.addr));
            return Ok(in_use);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Entries that are missing, and stay so; and those of others.
async fn entries(
    kernel: &dyn Kernel,
    in_use: &BTreeSet<Ipv6Addr>,
    uplinks: &BTreeMap<u32, String>,
    prefixes: &[Prefix],
) -> Result<Vec<Finding>, KernelError> {
    let ends = tokio::time::Instant::now() + WITHIN * 2;
    loop {
        let mut entries = kernel.proxy_entries().await?;
        entries.retain(|it| uplinks.contains_key(&it.link));
        // An agent answers where a prefix is on-link: there are others of its entries.
        let served: BTreeSet<u32> = entries.iter().filter(|it| it.is_ours()).map(|it| it.link).collect();
        let is_answered = |link, _| served.is_empty() || served.contains(&link);
        let missing = checks::missing(in_use, uplinks, &entries, is_answered);
        if missing.is_empty() || tokio::time::Instant::now() >= ends {
            return Ok(checks::of_missing(&missing)
                .into_iter()
                .chain(checks::foreign(prefixes, entries.iter(), |link| {
                    uplinks.get(&link).map(String::as_str)
                }))
                .collect());
        }
        tokio::time::sleep(POLL).await;
    }
}
