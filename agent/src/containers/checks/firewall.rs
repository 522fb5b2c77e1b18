//! What the host's firewall does with packets between this host's containers and those of other hosts. Pure.

use sextant_docker::firewall::verdict::{Flow, Obstacle};
use sextant_proto::Prefix;

use super::{Facts, Fault};
use crate::problems::Finding;

/// The faults of each claim and its pool.
pub(super) fn faults(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for claim in &facts.claims {
        let (own, pool) = (claim.container_prefix(), claim.pool.prefix);
        let (bridge, uplinks) = (vec![facts.bridge.clone()], facts.uplinks.clone());
        let incoming = Flow { from: pool, to: own, input: uplinks.clone(), output: bridge.clone() };
        let outgoing = Flow { from: own, to: pool, input: bridge, output: uplinks };
        if !facts.only_published {
            faults.extend(facts.rules.dropped(&incoming).map(|it| dropped(&it, pool, own)));
        }
        faults.extend(facts.rules.dropped(&outgoing).map(|it| dropped(&it, own, pool)));
        faults.extend(facts.rules.masqueraded(&outgoing).map(|it| masqueraded(&it, own, pool)));
    }
    faults
}

fn dropped(obstacle: &Obstacle, from: Prefix, to: Prefix) -> Fault {
    let Obstacle::Dropped { table, chain, rule } = obstacle else { return masqueraded(obstacle, from, to) };
    let finding = Finding::unready(
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
