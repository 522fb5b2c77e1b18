//! The kernel's objects as data.

use std::{fmt, net::Ipv6Addr};

use sextant_proto::Prefix;

use super::NextHops;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index; a link that is created again has another one.
    pub index: u32,
    /// Its name, as text that can be shown (`link_name_text` in `sextant_proto`).
    pub name: String,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Whether it has carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// Whether it is operational (IFF_RUNNING, RFC 2863), up to a second after its carrier has come. The kernel receives no IPv6 multicast
    /// packets before that.
    pub running: bool,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// The bridge or other device that it is a port of.
    pub controller: Option<u32>,
    /// Of a bridge: whether it remembers the link-layer addresses that it has learnt on its ports. Of a port: whether it learns there.
    pub learns: bool,
    /// Its MAC address; may be empty.
    pub mac: Vec<u8>,
    /// Its kind, e.g. `veth` (IFLA_INFO_KIND); empty for hardware.
    pub kind: String,
    /// The size of its largest packet, in octets. The kernel has no IPv6 on a link with less than 1280 (RFC 8200 §5).
    pub mtu: u32,
}

impl Neighbour {
    /// Whether its address is being resolved and has not answered (NUD_INCOMPLETE): the kernel cannot drop such an entry.
    pub fn is_unanswered(&self) -> bool {
        self.state == NeighbourState::Probing && self.mac.is_none()
    }
}

impl Link {
    /// Its MAC address as text.
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
    /// Duplicate address detection is not finished: the address is not usable yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner: the address is not usable.
    pub dad_failed: bool,
    /// Not for new communication (RFC 4862 §5.5.4).
    pub deprecated: bool,
    /// A privacy address (RFC 8981), which is replaced regularly.
    pub temporary: bool,
    /// Its lifetime is infinite.
    pub permanent: bool,
    /// The kernel adds a route to its on-link prefix (no `noprefixroute`).
    pub prefix_route: bool,
}

/// A neighbour entry of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub link: u32,
    /// The neighbour's address.
    pub addr: Ipv6Addr,
    /// Its reachability.
    pub state: NeighbourState,
    /// Its MAC address, if known.
    pub mac: Option<[u8; 6]>,
}

/// An address of another host that the kernel answers solicitations for (`NTF_PROXY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyEntry {
    /// The link on which it answers.
    pub link: u32,
    /// The address.
    pub addr: Ipv6Addr,
    /// Who has added it; 0 if that is not known.
    pub protocol: RouteProtocol,
    /// Whether its answers say that the sender forwards packets (`NTF_ROUTER`, RFC 4861 §4.4).
    pub router: bool,
}

/// The kernel's IPv6 neighbour table, which all network namespaces of a machine share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NeighbourTable {
    /// All entries, of all network namespaces.
    pub entries: u32,
    /// Above this number, the kernel drops entries that were not used for 5 s (`gc_thresh2`).
    pub soft_limit: u32,
    /// The kernel adds no entry above this number (`gc_thresh3`).
    pub limit: u32,
    /// The number of addresses that did not answer, since the machine's start.
    pub failed: u64,
    /// The number of new entries that the kernel refused because the table was full, since the machine's start.
    pub refused: u64,
}

/// The reachability of a neighbour (RFC 4861 §7.3.2), with the kernel's states that mean the same to a probe as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighbourState {
    /// It answered recently (NUD_REACHABLE).
    Reachable,
    /// It answered some time ago (NUD_STALE, NUD_DELAY).
    Stale,
    /// A probe is in progress (NUD_PROBE, NUD_INCOMPLETE).
    Probing,
    /// It was not probed yet (NUD_NONE).
    Unknown,
    /// It did not answer a probe (NUD_FAILED).
    Failed,
    /// The link needs no resolution, or another program resolves it (NUD_NOARP): its state proves nothing.
    Fixed,
    /// An administrator or a program has set it for good (NUD_PERMANENT): its state proves nothing either.
    Permanent,
}

impl NeighbourState {
    /// Whether the kernel never probes it.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed | Self::Permanent)
    }
}

/// The main table (RT_TABLE_MAIN).
pub const MAIN_TABLE: u32 = 254;

/// The table of this host's own addresses (RT_TABLE_LOCAL).
pub const LOCAL_TABLE: u32 = 255;
/// The index of the loopback interface.
pub const LOOPBACK_LINK: u32 = 1;

/// The kernel's key of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The routing table.
    pub table: u32,
    /// The destination prefix.
    pub destination: Prefix,
    /// Its metric (priority); the lowest is used.
    pub metric: u32,
}

/// A next hop: a gateway, and the interface towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The gateway; none for an on-link route.
    pub gateway: Option<Ipv6Addr>,
    /// The interface's index.
    pub link: u32,
    /// The gateway is a neighbour on the link, whatever other routes say (RTNH_F_ONLINK).
    pub onlink: bool,
}

/// The action of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteTarget {
    /// Forwards packets through one of these.
    Via(NextHops),
    /// Answers packets with an ICMPv6 unreachable.
    Unreachable,
    /// A route type that Sextant does not use (RTN_*), or a route of ours with properties that Sextant gives none, e.g. metrics.
    Other(u8),
}

impl RouteTarget {
    /// A nexthop object that the kernel does not show (RTN_UNICAST without next hops): `nexthop_compat_mode` is 0.
    pub const NEXTHOP_OBJECT: RouteTarget = RouteTarget::Other(1);
    /// An address of this host (RTN_LOCAL).
    pub const LOCAL: RouteTarget = RouteTarget::Other(2);
    /// An anycast address of this host (RTN_ANYCAST).
    pub const ANYCAST: RouteTarget = RouteTarget::Other(4);
    /// Drops packets without an answer (RTN_BLACKHOLE).
    pub const BLACKHOLE: RouteTarget = RouteTarget::Other(6);
    /// The lookup goes on with the next rule (RTN_THROW).
    pub const THROW: RouteTarget = RouteTarget::Other(9);
    /// Refuses packets with an ICMPv6 message, as an unreachable route does (RTN_PROHIBIT).
    pub const PROHIBIT: RouteTarget = RouteTarget::Other(8);

    /// The link that it leads to, if that is one without a gateway.
    pub fn direct_link(&self) -> Option<u32> {
        match self {
            Self::Via(hops) => match hops.as_slice() {
                [hop] if hop.gateway.is_none() => Some(hop.link),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A route's origin (rtm_protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteProtocol(pub u8);

impl RouteProtocol {
    /// Sextant's own.
    pub const OURS: RouteProtocol = RouteProtocol(sextant_proto::ROUTE_PROTOCOL);
    /// The kernel's, for on-link prefixes.
    pub const KERNEL: RouteProtocol = RouteProtocol(2);
    /// Of commands and container engines that name none.
    pub const BOOT: RouteProtocol = RouteProtocol(3);
    /// Learned from router advertisements.
    pub const ADVERTISED: RouteProtocol = RouteProtocol(9);
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

/// A route in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its key.
    pub key: RouteKey,
    /// Its origin.
    pub protocol: RouteProtocol,
    /// Its action.
    pub target: RouteTarget,
    /// The size of the largest packet on it (RTAX_MTU), if it has one of its own.
    pub mtu: Option<u32>,
}

/// A route of the agent; its protocol is [`RouteProtocol::OURS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRoute {
    /// Its key.
    pub key: RouteKey,
    /// Its action.
    pub target: RouteTarget,
}

/// A change of one of our routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a route; fails if its key exists (NLM_F_CREATE | NLM_F_EXCL).
    Add(OwnRoute),
    /// Replaces our route of the same key (NLM_F_REPLACE).
    Replace(OwnRoute),
    /// Deletes the route of this key if it is ours: the message names our protocol.
    Delete(OwnRoute),
}

impl Change {
    /// The changed route.
    pub fn route(&self) -> &OwnRoute {
        match self {
            Self::Add(route) | Self::Replace(route) | Self::Delete(route) => route,
        }
    }
}

/// Which routes to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Our protocol's, in all tables; filtered by the kernel.
    Ours,
    /// Those from router advertisements, in all tables; filtered by the kernel.
    Advertised,
    /// Those that the kernel makes, e.g. for addresses, in all tables; filtered by the kernel.
    Connected,
    /// Those of `proto boot`, which commands and container engines make, in all tables; filtered by the kernel.
    Boot,
    /// All protocols', in this table; filtered by the kernel.
    Table(u32),
}

/// The kernel's error for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errno {
    /// The positive errno, e.g. 17 for EEXIST.
    pub code: i32,
    /// The kernel's text (extended ack); may be empty.
    pub detail: String,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.code))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
