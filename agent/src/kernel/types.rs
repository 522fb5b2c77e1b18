//! What the kernel has, as data.

use std::{fmt, net::Ipv6Addr};

use sextant_proto::Prefix;

use super::NextHops;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index; another one when it is made anew.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it has carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// The bridge or other device it is a port of.
    pub controller: Option<u32>,
    /// Its MAC address, or nothing.
    pub mac: Vec<u8>,
}

impl Link {
    /// Its MAC address as people write it.
    pub fn mac_text(&self) -> String {
        let octets: Vec<_> = self.mac.iter().map(|octet| format!("{octet:02x}")).collect();
        octets.join(":")
    }
}

/// An IPv6 address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub link: u32,
    /// The address.
    pub addr: Ipv6Addr,
    /// The length of its on-link prefix.
    pub len: u8,
    /// Whether it is of global scope (not link-local, not host).
    pub global: bool,
    /// Duplicate address detection is not done: not to be used yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner: never to be used.
    pub dad_failed: bool,
    /// Not to be used for what is new (RFC 4862 §5.5.4).
    pub deprecated: bool,
    /// A privacy address (RFC 8981), soon another.
    pub temporary: bool,
    /// Its lifetime is infinite.
    pub permanent: bool,
}

/// What the kernel knows of a neighbour on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub link: u32,
    /// The neighbour's address.
    pub addr: Ipv6Addr,
    /// Whether it is there.
    pub state: NeighbourState,
    /// Its MAC address, where it is known.
    pub mac: Option<[u8; 6]>,
}

/// Whether a neighbour is there (RFC 4861 §7.3.2), as far as it matters to one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighbourState {
    /// It has answered lately (NUD_REACHABLE).
    Reachable,
    /// It was there some time ago (NUD_STALE, NUD_DELAY).
    Stale,
    /// It is being asked (NUD_PROBE, NUD_INCOMPLETE).
    Asking,
    /// Nothing has been asked yet (NUD_NONE).
    Unknown,
    /// It was asked, and does not answer (NUD_FAILED).
    Failed,
    /// Somebody has set it by hand, or the link has no such thing (NUD_PERMANENT, NUD_NOARP): it says nothing.
    Fixed,
}

/// The table that `ip` does not name (RT_TABLE_MAIN).
pub const MAIN_TABLE: u32 = 254;

/// How the kernel tells routes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The routing table.
    pub table: u32,
    /// Where it leads.
    pub destination: Prefix,
    /// Its metric (priority); the lowest is used.
    pub metric: u32,
}

/// The way out to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The gateway; none for an on-link route.
    pub gateway: Option<Ipv6Addr>,
    /// The interface's index.
    pub link: u32,
}

/// What a route does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// Sends it on through one of these.
    Via(NextHops),
    /// Answers with an ICMPv6 unreachable.
    Unreachable,
    /// Something else that Sextant does not make: the kernel's route type.
    Other(u8),
}

/// A route's origin (rtm_protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// Sextant's own.
    pub const OURS: RouteProtocol = RouteProtocol(sextant_proto::ROUTE_PROTOCOL);
    /// The kernel's, for on-link prefixes.
    pub const KERNEL: RouteProtocol = RouteProtocol(2);
}

impl fmt::Display for RouteProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "redirect",
            2 => "kernel",
            3 => "boot",
            4 => "static",
            9 => "ra",
            11 => "zebra",
            12 => "bird",
            16 => "dhcp",
            66 => "sextant",
            186 => "bgp",
            188 => "ospf",
            196 => "zstatic",
            other => return write!(f, "{other}"),
        };
        f.pad(name)
    }
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What tells it apart.
    pub key: RouteKey,
    /// Who made it.
    pub protocol: RouteProtocol,
    /// What it does.
    pub target: RouteTarget,
}

/// A route as the agent wants it; its protocol is [`RouteProtocol::OURS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRoute {
    /// What tells it apart.
    pub key: RouteKey,
    /// What it does.
    pub target: RouteTarget,
}

/// One message to the kernel about a route of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a route where there is none of its key (NLM_F_CREATE | NLM_F_EXCL).
    Add(OwnRoute),
    /// Puts a route into the place of the one of its key, which is ours (NLM_F_REPLACE).
    Replace(OwnRoute),
    /// Takes away the route of this key if it is ours: the message names our protocol.
    Delete(OwnRoute),
}

impl Change {
    /// The route it is about.
    pub fn route(&self) -> &OwnRoute {
        match self {
            Self::Add(route) | Self::Replace(route) | Self::Delete(route) => route,
        }
    }
}

/// A rule of the IPv6 routing policy (ip-rule(8)). The kernel goes through them by their priority, the lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its priority, which `ip` calls preference.
    pub priority: u32,
    /// Only packets from here.
    pub from: Option<Prefix>,
    /// Only packets to here.
    pub to: Option<Prefix>,
    /// It depends on something else too: a mark, an interface, a port; or it means all but what it says.
    pub narrow: bool,
    /// What happens to the packets.
    pub action: RuleAction,
    /// Routes found by it that are of this length or shorter are not taken.
    pub suppressed: Option<u32>,
}

/// What a rule does (FR_ACT_*).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RuleAction {
    /// Looks in this table; where nothing is found, the next rule has its turn.
    Table(u32),
    /// Refuses or drops: `unreachable`, `prohibit`, `blackhole`.
    Refuse(&'static str),
    /// Nothing that decides.
    #[default]
    Other,
}

/// Which routes to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of our protocol, in all tables; filtered by the kernel.
    Ours,
    /// Those of the table, of whatever protocol; filtered by the kernel.
    Table(u32),
}

/// An error of the kernel for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errno {
    /// The positive errno, e.g. 17 for EEXIST.
    pub code: i32,
    /// The kernel's own words (extended ack), or nothing.
    pub detail: String,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.code))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Something that happened in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A route was added, changed or replaced, not by us.
    RouteChanged(Route),
    /// A route was taken away, not by us.
    RouteGone(Route),
    /// A link is new or has changed.
    LinkChanged(Link),
    /// A link is gone.
    LinkGone(Link),
    /// An address is new or has changed.
    AddressChanged(Address),
    /// An address is gone.
    AddressGone(Address),
    /// Events were lost: what is known must be read anew.
    Overrun,
}
