//! Where the host stands: its links, and the prefixes that it answers for.

use std::net::Ipv6Addr;

use sextant_proto::Prefix;

use crate::message::Mac;

/// Where, what for and how the host answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The container prefixes of this node's claims.
    pub prefixes: Vec<Prefix>,
    /// Those that another host had before: what its neighbours know of them is replaced.
    pub moved: Vec<Prefix>,
    /// Those that are not on-link on an uplink, with its index: neighbours there are not answered.
    pub off_link: Vec<(u32, Prefix)>,
    /// The interfaces on which it answers.
    pub uplinks: Vec<Uplink>,
    /// The bridges of its containers.
    pub bridges: Vec<Bridge>,
    /// Whether it answers for all addresses in use; else only those who have asked before one was known, and the kernel the others.
    pub answers: bool,
    /// Which addresses it answers for.
    pub answer: Answer,
    /// Whether every advertisement replaces what a neighbour knew.
    pub overrides: bool,
    /// The source of advertisements.
    pub source: Source,
}

/// Which addresses of a container prefix are answered for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// Those that a container has.
    #[default]
    Live,
    /// All of them.
    All,
}

/// The source of advertisements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// The link-local address of the uplink.
    #[default]
    LinkLocal,
    /// The address that is advertised, for providers that filter others.
    Target,
}

/// An interface with neighbours that solicit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub link: u32,
    /// Its link-layer address.
    pub mac: Mac,
    /// An address of it, of link-local scope if it has one.
    pub source: Ipv6Addr,
    /// Whether the kernel hears what is sent to multicast groups there: not before IPv6 is ready on the link.
    pub kernel_hears: bool,
}

/// A bridge with containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its index.
    pub link: u32,
    /// Its link-layer address.
    pub mac: Mac,
    /// An address of it, of which solicitations are sent.
    pub source: Ipv6Addr,
    /// The prefixes that are on-link there.
    pub prefixes: Vec<Prefix>,
    /// Its own addresses.
    pub own: Vec<Ipv6Addr>,
}

impl Bridge {
    /// Whether containers there may have this address.
    pub fn has(&self, target: Ipv6Addr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(target))
    }
}

impl Place {
    /// Whether the address belongs to containers of this host. The first address of a prefix is the anycast address of its routers
    /// (RFC 4291 §2.6.1), which no container has.
    pub fn is_containers(&self, target: Ipv6Addr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(target) && prefix.addr() != target)
    }

    /// Whether a container on this bridge may have the address: nobody there speaks for containers of another bridge.
    pub fn may_be_on(&self, bridge: u32, target: Ipv6Addr) -> bool {
        let is_there = self.bridges.iter().any(|it| it.link == bridge && it.has(target));
        is_there && self.is_containers(target) && !self.own_targets().any(|own| own == target)
    }

    /// Whether an answer to this source would go to this host itself: it is on two links that are connected, or somebody speaks in
    /// its name.
    pub fn is_this_host(&self, source: Ipv6Addr, mac: Mac) -> bool {
        let is_uplink = |it: &Uplink| it.mac == mac || it.source == source;
        let is_bridge = |it: &Bridge| it.mac == mac || it.own.contains(&source);
        self.uplinks.iter().any(is_uplink) || self.bridges.iter().any(is_bridge)
    }

    /// Whether neighbours on this uplink may ask for the address.
    pub fn is_on_link(&self, uplink: u32, target: Ipv6Addr) -> bool {
        !self.off_link.iter().any(|(link, prefix)| *link == uplink && prefix.contains(target))
    }

    /// The addresses of the bridges inside of the container prefixes.
    pub fn own_targets(&self) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.bridges.iter().flat_map(|bridge| &bridge.own).copied();
        all.filter(|own| self.prefixes.iter().any(|prefix| prefix.contains(*own)))
    }

    /// The source of an advertisement of this address.
    pub fn source_of(&self, uplink: &Uplink, target: Ipv6Addr) -> Ipv6Addr {
        match self.source {
            Source::LinkLocal => uplink.source,
            Source::Target => target,
        }
    }

    /// Whether an advertisement of this address replaces what a neighbour knew.
    pub fn overrides(&self, target: Ipv6Addr) -> bool {
        self.overrides || self.moved.iter().any(|prefix| prefix.contains(target))
    }
}
