//! What the host's firewall does with packets between this host's containers and those of other hosts. Pure.

use sextant_docker::firewall::verdict::{Flow, Obstacle};
use sextant_proto::{Claim, Prefix};

use super::{Facts, Fault};
use crate::{containers::bridge_of, problems::Finding};

/// So many are reported.
const MOST_FAULTS: usize = 16;

/// The faults of each container prefix and its pool.
pub(super) fn faults(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for claim in &facts.claims {
        let (host, pool) = (claim.prefix, claim.pool.prefix);
        for (own, bridge) in container_prefixes(facts, claim) {
            let (bridge, uplinks) = (vec![bridge], facts.uplinks.clone());
            let incoming = Flow { from: pool, to: own, host, input: uplinks.clone(), output: bridge.clone() };
            let outgoing = Flow { from: own, to: pool, host, input: bridge, output: uplinks };
            // The host serves its own network; others may be closed on purpose.
            let unready = own == claim.container_prefix();
            let dropped = |flow: &Flow| {
                let fault = dropped(&facts.rules.dropped(flow)?, flow.from, flow.to);
                Some(Fault { finding: Finding { unready, ..fault.finding }, ..fault })
            };
            if !facts.only_published {
                faults.extend(dropped(&incoming));
            }
            faults.extend(dropped(&outgoing));
            faults.extend(facts.rules.masqueraded(&outgoing).map(|it| masqueraded(&it, own, pool)));
        }
    }
    faults.truncate(MOST_FAULTS);
    faults
}

/// Each container prefix of a claim with its bridge: that of the settings first, if there is one, then those of the engine's
/// networks.
fn container_prefixes(facts: &Facts, claim: &Claim) -> Vec<(Prefix, String)> {
    let own = claim.container_prefix();
    let others =
        facts.live.prefixes().filter(|(_, prefix)| claim.prefix.covers(*prefix) && !own.overlaps(*prefix));
    let others = others.map(|(network, prefix)| (prefix, bridge_of(network)));
    let stands = facts.links.iter().any(|link| link.name == facts.bridge);
    let first = stands.then(|| (own, facts.bridge.clone()));
    first.into_iter().chain(others).collect()
}

fn dropped(obstacle: &Obstacle, from: Prefix, to: Prefix) -> Fault {
    let Obstacle::Dropped { table, chain, rule } = obstacle else { return masqueraded(obstacle, from, to) };
    let finding = Finding::new(
        "docker-firewall-drops",
        format!(
            "the firewall drops packets from {from} to {to}, which are of containers: ip6tables -t {table}: {rule}"
        ),
        format!(
            "`ip6tables -t {table} -I {chain} 1 -s {from} -d {to} -j ACCEPT`, and the same where the rule comes from; where it is \
             Docker's, [docker] mode = \"network\" in agent.toml keeps such rules, or \"ip6tables\": false in daemon.json ends its own"
        ),
    );
    Fault { finding, safe: Vec::new() }
}

fn masqueraded(obstacle: &Obstacle, own: Prefix, pool: Prefix) -> Fault {
    let (Obstacle::Masqueraded { rule } | Obstacle::Dropped { rule, .. }) = obstacle;
    let finding = Finding::new(
        "docker-masquerade",
        format!(
            "the source of packets from {own} to {pool} is replaced, so that containers of other hosts do not see the container's own \
             address: ip6tables -t nat: {rule}"
        ),
        format!(
            "`ip6tables -t nat -I POSTROUTING 1 -s {own} -d {pool} -j ACCEPT`, and the same where the rule comes from; where it is \
             Docker's, [docker] mode = \"network\" in agent.toml keeps such a rule, or \"ip6tables\": false in daemon.json ends its own"
        ),
    );
    Fault { finding, safe: Vec::new() }
}
