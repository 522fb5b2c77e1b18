//! Nodes as their peers see them.

use std::{fmt, net::Ipv6Addr, time::Duration};

use crate::{NodeName, PoolName, Prefix, Revision};

/// The state of a node (DESIGN §5). `down` is not a state: it is a lost session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// It has a claim; its host is not set up yet, and no peer routes to it.
    Joining,
    /// Its host is set up; peers route to it.
    Ready,
    /// Peers withdraw their routes; the host still has its own.
    Draining,
    /// No peer routes to it, and it routes to no peer. The claim stays.
    Drained,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
        })
    }
}

/// A router that an agent speaks BGP with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpNeighbour {
    /// Its address; unspecified while it is not known.
    pub address: Ipv6Addr,
    /// Its interface, if its address is link-local; else empty.
    pub interface: String,
    /// Its AS, as configured.
    pub remote_as: u32,
    /// `connecting`, `opening` or `established`.
    pub state: String,
    /// The time at which the state began, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// UPDATE messages sent in this session.
    pub sent: u64,
    /// UPDATE messages received in this session.
    pub received: u64,
    /// The last error; empty if there was none.
    pub error: String,
    /// The BFD state: `admin-down`, `down`, `init`, `up`; empty without BFD.
    pub bfd: String,
    /// Imported prefixes.
    pub imported: u64,
}

impl BgpNeighbour {
    /// For people: `2001:db8::1`, `fe80::1%eth0`, or `eth0` while only that is known.
    pub fn name(&self) -> String {
        match self.interface.as_str() {
            "" => self.address.to_string(),
            interface if self.address.is_unspecified() => interface.to_owned(),
            interface => format!("{}%{interface}", self.address),
        }
    }
}

/// What every agent sees of a node that holds claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub name: NodeName,
    /// Its claims, one per pool; the primary one first. At least one.
    pub claims: Vec<PeerClaim>,
    /// Its addresses on its uplinks, best first. One that a link-local one follows tells the segment only: the node is to be
    /// routed through the link-local one there.
    pub next_hops: Vec<Ipv6Addr>,
    /// Whether its agent is connected to a controller.
    pub session: bool,
    /// How long it waits for its peers when it drains.
    pub drain_timeout: Duration,
}

/// What every agent sees of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerClaim {
    /// The host prefix.
    pub prefix: Prefix,
    /// The pool of the host prefix.
    pub pool: PoolName,
    /// The create revision of the claim.
    pub claimed: Revision,
    /// The state of the node, for this claim: it may be ready for one and joining for another.
    pub state: NodeState,
    /// Whether new addresses are to be taken from it.
    pub phase: ClaimPhase,
}

/// Whether a claim's prefix is for new addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimPhase {
    /// Containers get addresses of it.
    #[default]
    Current,
    /// Routed as before; containers get no new addresses of it.
    Deprecated,
}

impl fmt::Display for ClaimPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Current => "current",
            Self::Deprecated => "deprecated",
        })
    }
}

impl PeerClaim {
    /// A claim whose prefix is for new addresses.
    pub fn current(prefix: Prefix, pool: PoolName, claimed: Revision, state: NodeState) -> Self {
        Self { prefix, pool, claimed, state, phase: ClaimPhase::Current }
    }
}

impl Peer {
    /// The state of the node: that of the claim which is furthest. Draining and drained hold for all claims of a node.
    pub fn state(&self) -> NodeState {
        self.claims.iter().map(|claim| claim.state).max().unwrap_or(NodeState::Joining)
    }

    /// The first claim, the only one that agents and controllers before claims of several pools know of.
    pub fn primary(&self) -> Option<&PeerClaim> {
        self.claims.first()
    }

    /// Its claim in a pool.
    pub fn claim_in(&self, pool: &PoolName) -> Option<&PeerClaim> {
        self.claims.iter().find(|claim| claim.pool == *pool)
    }

    /// Its claim of a host prefix.
    pub fn claim_of(&self, prefix: Prefix) -> Option<&PeerClaim> {
        self.claims.iter().find(|claim| claim.prefix == prefix)
    }

    /// Its claims that other hosts route to.
    pub fn ready_claims(&self) -> impl Iterator<Item = &PeerClaim> {
        self.claims.iter().filter(|claim| claim.state == NodeState::Ready)
    }

    /// The node with all claims in `state`.
    #[must_use]
    pub fn in_state(self, state: NodeState) -> Self {
        self.with_each_claim(|claim| claim.state = state)
    }

    /// The node with each claim changed.
    #[must_use]
    pub fn with_each_claim(mut self, change: impl FnMut(&mut PeerClaim)) -> Self {
        self.claims.iter_mut().for_each(change);
        self
    }
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    /// The address.
    pub addr: Ipv6Addr,
    /// The on-link prefix of the address.
    pub on_link: Prefix,
}

/// An interface of a node towards the other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name on the node.
    pub interface: String,
    /// Its addresses that peers may use, best first.
    pub addresses: Vec<InterfaceAddress>,
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interface)?;
        self.addresses.iter().try_for_each(|it| write!(f, " {}/{}", it.addr, it.on_link.len()))
    }
}

/// The path to a peer that needs no router: its first next hop that is on-link on one of `uplinks`, or the link-local one
/// after that; and that uplink (DESIGN §2). A link-local address alone tells of no segment: every link has its prefix.
pub fn direct_next_hop<'a>(uplinks: &'a [Uplink], next_hops: &[Ipv6Addr]) -> Option<(&'a Uplink, Ipv6Addr)> {
    let on_link =
        |uplink: &&Uplink, hop| uplink.addresses.iter().any(|address| address.on_link.contains(hop));
    first_next_hop(next_hops, |hop| uplinks.iter().find(|uplink| on_link(uplink, hop)))
}

/// As [`direct_next_hop`], with the link of a next hop by `link_of`, which is asked for none that is link-local.
pub fn first_next_hop<L>(
    next_hops: &[Ipv6Addr],
    link_of: impl Fn(Ipv6Addr) -> Option<L>,
) -> Option<(L, Ipv6Addr)> {
    let all = next_hops.iter().enumerate().filter(|(_, hop)| !hop.is_unicast_link_local());
    let mut direct = all.filter_map(|(at, &hop)| {
        let link = link_of(hop)?;
        let link_local = next_hops.get(at + 1).filter(|next| next.is_unicast_link_local());
        Some((link, *link_local.unwrap_or(&hop)))
    });
    direct.next()
}

/// What holds for all agents at once (DESIGN I6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// No agent changes its kernel.
    pub paused: bool,
    /// The revision of the last resume: the brake does not apply to changes up to it.
    pub resumed: Revision,
    /// How many announced nodes were forgotten by commands that an operator confirmed, ever.
    pub confirmed_removals: u64,
}

/// A route that an agent could not program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRoute {
    /// Its destination.
    pub destination: Prefix,
    /// The kernel's reason.
    pub error: String,
}

/// A route of another program that takes packets of one of Sextant's routes, or would without it (DESIGN I4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its destination.
    pub destination: Prefix,
    /// The other's route protocol, as in rt_protos.
    pub protocol: String,
    /// The other's metric.
    pub metric: u32,
    /// Whether the kernel uses ours: the lower metric wins.
    pub ours_wins: bool,
    /// The destination of ours, if it is another one.
    pub ours: Option<Prefix>,
    /// Where it leads, as ip-route(8) shows it: `via fe80::1 dev eth0`. Empty if an earlier version reports it.
    pub leads: String,
}

/// An agent's verdict on a host without an agent (DESIGN §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The host's node.
    pub node: NodeName,
    /// It answers neighbour solicitations; else it is dead.
    pub forwarding: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let winner = if self.ours_wins { "ours wins" } else { "theirs wins" };
        write!(f, "{} proto {} metric {}", self.destination, self.protocol, self.metric)?;
        if !self.leads.is_empty() {
            write!(f, " {}", self.leads)?;
        }
        write!(f, ": {winner}")?;
        self.ours.iter().try_for_each(|ours| write!(f, " over {ours}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(interface: &str, addr: &str, on_link: &str) -> Uplink {
        let address = InterfaceAddress { addr: addr.parse().unwrap(), on_link: on_link.parse().unwrap() };
        Uplink { interface: interface.into(), addresses: vec![address] }
    }

    #[test]
    fn the_first_on_link_next_hop_is_direct() {
        let uplinks = [
            uplink("eth0", "2001:db8::1", "2001:db8::/64"),
            uplink("eth1", "2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ];
        let hops = [
            "2001:db8:9::2".parse().unwrap(),
            "2001:db8:0:1::2".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ];
        let (uplink, hop) = direct_next_hop(&uplinks, &hops).unwrap();
        assert_eq!((uplink.interface.as_str(), hop), ("eth1", hops[1]));
        assert!(direct_next_hop(&uplinks, &hops[..1]).is_none());
    }

    #[test]
    fn a_link_local_next_hop_is_that_of_the_segment_of_the_address_before_it() {
        // As a node announces them that is to be routed through its link-local addresses itself.
        let mut uplinks = [
            uplink("eth0", "2001:db8::1", "2001:db8::/64"),
            uplink("eth1", "2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ];
        uplinks[0].addresses.push(InterfaceAddress {
            addr: "fe80::1".parse().unwrap(),
            on_link: "fe80::/64".parse().unwrap(),
        });
        let through = |hops: &[&str]| {
            let hops: Vec<_> = hops.iter().map(|hop| hop.parse().unwrap()).collect();
            direct_next_hop(&uplinks, &hops).map(|(uplink, hop)| format!("{hop} {}", uplink.interface))
        };
        assert_eq!(through(&["2001:db8:0:1::2", "fe80::2"]).unwrap(), "fe80::2 eth1");
        assert_eq!(through(&["2001:db8:9::2", "fe80::2", "2001:db8::2", "fe80::3"]).unwrap(), "fe80::3 eth0");
        assert_eq!(through(&["2001:db8::2", "2001:db8::3", "fe80::3"]).unwrap(), "2001:db8::2 eth0");
        assert_eq!(through(&["fe80::2", "2001:db8::2"]).unwrap(), "2001:db8::2 eth0");
        assert_eq!(through(&["2001:db8:9::2", "fe80::2"]), None, "another segment");
        assert_eq!(through(&["fe80::2"]), None, "no segment");
    }
}
