//! Whether this host is announced to peers, with which uplinks, and the problems that prevent it. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{
    Claim, NodeName, Prefix, Uplink,
    convert::{MOST_ADDRESSES, MOST_CONTAINER_PREFIXES, MOST_UPLINKS},
};

use super::{AnnouncedClaim, Announcement, inputs::Latest};
use crate::{
    advice::about_infrastructure,
    cluster::Input,
    host::{self, Setup},
    problems::Finding,
    settings::{NextHopKind, Role, Settings},
    uplinks::{self, LocalUplink},
};

/// The announcement to peers, and the problems of the host: `findings` are those of its uplinks.
pub(super) fn announcement(
    settings: &Settings,
    uplinks: &[LocalUplink],
    mut findings: Vec<Finding>,
    latest: &Latest,
    setup: Setup,
    captured: impl Fn(&Claim) -> Option<Ipv6Addr>,
) -> (Option<Announcement>, Vec<Finding>) {
    let input = &latest.input;
    if settings.role == Role::Router {
        findings.extend(router_problem(input, setup));
        return (None, findings);
    }
    let mut uplinks = announced(uplinks, settings.next_hop);
    remove_claimed(&mut uplinks, &input.claims);
    let unreachable = uplinks.iter().all(|uplink| uplink.addresses.is_empty());
    if unreachable {
        findings.iter_mut().for_each(|finding| finding.unready = true);
    }
    findings.extend(
        input.claims.iter().filter_map(|claim| Some(capturing(&settings.node, claim, captured(claim)?))),
    );
    let (missing, without) = match setup {
        Setup::Waiting(why) => (Some(why), Vec::new()),
        Setup::Ready => (input.claims.is_empty().then(host::no_claim), Vec::new()),
        Setup::Without(reasons) => (None, reasons),
    };
    let is_set_up = |claim: &Claim| without.iter().all(|(prefix, _)| *prefix != claim.prefix);
    if let Some(missing) = missing {
        findings.push(missing);
        return (None, findings);
    }
    let announced = |claim: &Claim| AnnouncedClaim {
        epoch: claim.epoch,
        container_prefixes: container_prefixes(claim, &latest.networks),
    };
    let usable = input.claims.iter().filter(|claim| captured(claim).is_none() && is_set_up(claim));
    let announcement = Announcement { uplinks, claims: usable.map(announced).collect() };
    findings.extend(without.iter().map(|(_, why)| why.clone()));
    ((!unreachable).then_some(announcement), findings)
}

/// That of the bridge first, then those of other networks in the host prefix.
fn container_prefixes(claim: &Claim, networks: &[Prefix]) -> Vec<Prefix> {
    let own = claim.container_prefix();
    let others = networks.iter().copied().filter(|it| claim.prefix.covers(*it) && !own.overlaps(*it));
    std::iter::once(own).chain(others).take(MOST_CONTAINER_PREFIXES).collect()
}

fn capturing(node: &NodeName, claim: &Claim, addr: Ipv6Addr) -> Finding {
    Finding::unready(
        "prefix-with-infrastructure",
        format!(
            "host prefix {} of pool {} contains {addr}, which this host's network stands on (its uplink, link, router or \
             controller): it is not used",
            claim.prefix, claim.pool.name
        ),
        about_infrastructure(claim.prefix, "this host", node, &claim.pool.name),
    )
}

/// The uplinks that are announced. Peers stop using an uplink at once that is not. If none works, all of them are announced; of
/// very many, and of their addresses, as many as controllers take.
fn announced(uplinks: &[LocalUplink], next_hop: NextHopKind) -> Vec<Uplink> {
    let any = uplinks.iter().any(is_usable);
    let announced: Vec<_> =
        uplinks.iter().filter(|local| !any || is_usable(local)).take(MOST_UPLINKS).collect();
    let each = MOST_ADDRESSES / announced.len().max(1);
    let bounded = |local: &LocalUplink| {
        let mut uplink = uplinks::announced(local, next_hop);
        uplink.addresses.truncate(each);
        uplink
    };
    announced.into_iter().map(bounded).collect()
}

/// A next hop inside a prefix of this node would have peers route to it through itself.
fn remove_claimed(uplinks: &mut [Uplink], claims: &[Claim]) {
    for Uplink { addresses, .. } in uplinks {
        addresses.retain(|address| !claims.iter().any(|claim| claim.prefix.contains(address.addr)));
    }
}

fn is_usable(local: &LocalUplink) -> bool {
    local.works && !local.uplink.addresses.is_empty()
}

/// A router is set up once it forwards and has received the hosts.
fn router_problem(input: &Input, setup: Setup) -> Option<Finding> {
    match setup {
        Setup::Waiting(why) => Some(why),
        Setup::Ready | Setup::Without(_) if input.view.incarnation().is_none() => Some(Finding::unready(
            "no-controller",
            "no controller has answered yet",
            "check --controller, and that sextant-controller runs there",
        )),
        Setup::Ready | Setup::Without(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, InterfaceAddress, Revision};

    use super::*;
    use crate::routes::{
        fixture::{pool, uplink},
        random_states::prefix,
    };

    #[test]
    fn an_address_inside_a_claim_is_no_next_hop() {
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        let claims = [Claim { prefix: prefix(1), epoch, pool: pool() }];
        let address = |addr: Ipv6Addr| InterfaceAddress { addr, on_link: prefix(1) };
        let outside = address("2001:db8::1".parse().unwrap());
        let addresses = vec![address(prefix(1).first_host()), outside];
        let mut uplinks = [Uplink { interface: "eth0".into(), addresses }];
        remove_claimed(&mut uplinks, &claims);
        assert_eq!(uplinks[0].addresses, [outside]);
    }

    #[test]
    fn no_more_is_announced_than_controllers_take() {
        let mut many = uplink(2, "2001:db8::1");
        many.link_local = Some("fe80::1".parse().unwrap());
        many.uplink.addresses = vec![many.uplink.addresses[0]; 8];
        for count in [1, 8, 16, 17, 100] {
            for kind in [NextHopKind::Global, NextHopKind::LinkLocal] {
                let announced = announced(&vec![many.clone(); count], kind);
                let addresses: usize = announced.iter().map(|uplink| uplink.addresses.len()).sum();
                assert!(announced.len() <= MOST_UPLINKS && addresses <= MOST_ADDRESSES, "{count} {kind:?}");
                assert!(announced.iter().all(|uplink| uplink.addresses.len() >= 4), "{count} {kind:?}");
            }
        }
    }
}
