//! How this host reaches a peer, and why it does not. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, NodeState, Peer, PeerClaim};

use super::Known;
use crate::{
    kernel::{NextHop, NextHops},
    settings::{Direct, OffLink},
    uplinks::{LocalUplink, direct_next_hops},
};

/// What is decided of a peer, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// There is a direct route to it.
    Direct,
    /// It is not on-link, or direct routes are off: the routers have the route, and refuse unassigned prefixes.
    LeftToRouter,
    /// It is not on-link, and has a route through the gateway that leads to it.
    ThroughGateway,
    /// It is not on-link, and nobody says that a router knows its prefix: traffic to it is refused.
    OffLink,
    /// Its prefix has an address that this host's network stands on: a route to it would take that away.
    Infrastructure,
    /// No uplink of this host has an address.
    NoUplink,
    /// Its agent is lost, and its host does not answer: its prefix is refused.
    Dead,
    /// It has not announced itself, or takes no traffic any more.
    NotReady(NodeState),
    /// This node itself is drained, or about to be: it routes to no peer.
    Withdrawn,
    /// It is this node.
    Own,
}

/// A peer's state, and what it is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The state of the node, by the claim that is furthest.
    pub state: PeerState,
    /// The path, if there is one.
    pub(super) hops: Option<NextHops>,
}

impl Assessment {
    /// The assessment of `peer` by what is known.
    pub fn of(known: &Known<'_>, peer: &Peer) -> Self {
        let ready = is_routed(known.node, peer);
        let direct = if ready { next_hops(known, peer) } else { None };
        match state(known, peer, direct.is_some()) {
            PeerState::OffLink => match gateways(known, peer) {
                Some(hops) => Self { state: PeerState::ThroughGateway, hops: Some(hops) },
                None => Self { state: PeerState::OffLink, hops: None },
            },
            state => Self { state, hops: direct },
        }
    }

    /// The state for one claim of the peer: other hosts may route to another one of its claims already.
    pub fn of_claim(&self, known: &Known<'_>, claim: &PeerClaim) -> PeerState {
        match self.state {
            PeerState::Own | PeerState::Withdrawn => self.state,
            _ if claim.state != NodeState::Ready => PeerState::NotReady(claim.state),
            _ if known.infrastructure.inside(claim.prefix).is_some() => PeerState::Infrastructure,
            state => state,
        }
    }
}

/// Whether other hosts route to `peer`, and it is not this node.
pub fn is_routed(node: &NodeName, peer: &Peer) -> bool {
    peer.name != *node && peer.ready_claims().next().is_some()
}

fn state(known: &Known<'_>, peer: &Peer, is_on_link: bool) -> PeerState {
    if peer.name == *known.node {
        PeerState::Own
    } else if known.withdrawn {
        PeerState::Withdrawn
    } else if peer.ready_claims().next().is_none() {
        PeerState::NotReady(peer.state())
    } else if known.settings.direct == Direct::Never {
        PeerState::LeftToRouter
    } else if !is_on_link {
        if known.has_no_uplink() {
            PeerState::NoUplink
        } else if known.routers_refuse() {
            PeerState::LeftToRouter
        } else {
            PeerState::OffLink
        }
    } else if known.verdicts.is_dead(peer) {
        PeerState::Dead
    } else {
        PeerState::Direct
    }
}

/// The next hops of a direct path: all that work where traffic is to be balanced, else the first of them. If none seems to
/// work, all seem as good. `None` if no uplink has a path.
fn next_hops(known: &Known<'_>, peer: &Peer) -> Option<NextHops> {
    let all = || direct_next_hops(known.uplinks, peer).map(|(_, hop)| hop);
    let working = || {
        let works = |(local, hop): &(&LocalUplink, NextHop)| local.works && !known.verdicts.is_silent(hop);
        direct_next_hops(known.uplinks, peer).filter(works).map(|(_, hop)| hop)
    };
    if !known.settings.balance {
        return working().next().or_else(|| all().next()).map(NextHops::from);
    }
    let working: NextHops = working().collect();
    let used = if working.is_empty() { all().collect() } else { working };
    Some(used).filter(|used| !used.is_empty())
}

/// The gateways that lead to a peer which is not on-link, if a setting says that routers know its prefix.
fn gateways(known: &Known<'_>, peer: &Peer) -> Option<NextHops> {
    if known.settings.off_link != OffLink::Gateway {
        return None;
    }
    let own = |hop: &Ipv6Addr| known.uplinks.iter().any(|local| local.on_link.is_own(*hop));
    let hops = peer.next_hops.iter().filter(|hop| !hop.is_unicast_link_local() && !own(hop));
    hops.filter_map(|hop| known.gateways.towards(*hop)).next()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sextant_proto::Revision;

    use super::*;
    use crate::{
        cluster::{Verdict, Verdicts, View},
        routes::{
            Infrastructure,
            fixture::{SETTINGS, known, uplink},
        },
        settings::{RouteSettings, Topology},
        uplinks::Gateways,
    };

    fn peer() -> Peer {
        Peer {
            name: "host2".parse().unwrap(),
            claims: vec![PeerClaim::current(
                "2001:db8:1:2::/64".parse().unwrap(),
                "main".parse().unwrap(),
                Revision(2),
                NodeState::Ready,
            )],
            next_hops: vec!["2001:db8::2".parse().unwrap()],
            session: false,
            drain_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn each_state_has_its_reason() {
        let dead = Verdicts::from([("host2".parse().unwrap(), Verdict::Dead)]);
        let (view, here, elsewhere) =
            (View::default(), [uplink(2, "2001:db8::1")], [uplink(2, "2001:db8:f::1")]);
        let never = RouteSettings { direct: Direct::Never, ..SETTINGS };
        let routed = RouteSettings { topology: Topology::Routed, ..SETTINGS };
        let known = Known { uplinks: &here, ..known(&view) };
        let draining = peer().in_state(NodeState::Draining);
        let back = Peer { session: true, ..peer() };
        let own = Peer { name: "host1".parse().unwrap(), ..peer() };
        for (expected, known, peer) in [
            (PeerState::Direct, known, peer()),
            (PeerState::Direct, Known { verdicts: &dead, ..known }, back),
            (PeerState::Dead, Known { verdicts: &dead, ..known }, peer()),
            (PeerState::OffLink, Known { verdicts: &dead, uplinks: &elsewhere, ..known }, peer()),
            (PeerState::LeftToRouter, Known { settings: &routed, uplinks: &elsewhere, ..known }, peer()),
            (PeerState::LeftToRouter, Known { settings: &never, ..known }, peer()),
            (PeerState::NoUplink, Known { uplinks: &[], ..known }, peer()),
            (PeerState::NotReady(NodeState::Draining), known, draining.clone()),
            (PeerState::Withdrawn, Known { withdrawn: true, ..known }, draining),
            (PeerState::Own, known, own),
        ] {
            assert_eq!(Assessment::of(&known, &peer).state, expected);
        }
    }

    #[test]
    fn peers_with_one_next_hop_and_claims_of_one_peer_are_judged_each_for_itself() {
        let (view, uplinks) = (View::default(), [uplink(2, "2001:db8::1")]);
        let infrastructure = Infrastructure::of(&uplinks, &Gateways::default(), &[]);
        let verdicts = Verdicts::from([("host3".parse().unwrap(), Verdict::Dead)]);
        let known =
            Known { uplinks: &uplinks, infrastructure: &infrastructure, verdicts: &verdicts, ..known(&view) };
        let claim = |prefix: &str, state| PeerClaim {
            prefix: prefix.parse().unwrap(),
            state,
            ..peer().claims[0].clone()
        };
        let claims = vec![
            claim("2001:db8:1:2::/64", NodeState::Ready),
            claim("2001:db8::/120", NodeState::Ready),
            claim("2001:db8:1:3::/64", NodeState::Draining),
        ];
        for (name, next_hop, expected) in [
            ("host2", "2001:db8::2", PeerState::Direct),
            ("host3", "2001:db8::2", PeerState::Dead),
            ("host4", "2001:db8::2", PeerState::Direct),
            ("host5", "2001:db8::1", PeerState::OffLink),
        ] {
            let next_hops = vec![next_hop.parse().unwrap()];
            let peer = Peer { name: name.parse().unwrap(), claims: claims.clone(), next_hops, ..peer() };
            let assessment = Assessment::of(&known, &peer);
            let states: Vec<_> = peer.claims.iter().map(|claim| assessment.of_claim(&known, claim)).collect();
            let draining = PeerState::NotReady(NodeState::Draining);
            assert_eq!(states, [expected, PeerState::Infrastructure, draining], "{name}");
        }
    }
}
