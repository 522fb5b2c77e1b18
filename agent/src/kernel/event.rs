//! The kernel's notifications as data.

use super::{Address, Link, Route};

/// A notification of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Another process added, changed or replaced a route.
    RouteChanged(Route),
    /// The kernel has dropped a route, e.g. with its link.
    RouteGone(Route),
    /// Another process has deleted a route.
    RouteDeleted(Route),
    /// A link is new or has changed.
    LinkChanged(Link),
    /// A link was deleted.
    LinkGone(Link),
    /// An address is new or has changed.
    AddressChanged(Address),
    /// An address was removed.
    AddressGone(Address),
    /// The rules of the routing policy have changed.
    RulesChanged,
    /// Forwarding was set, or came with a new link: `conf.LINK.forwarding`, or `conf.all.forwarding` without a link.
    Forwarding {
        /// The link's index.
        link: Option<u32>,
        /// Whether it is on.
        on: bool,
    },
    /// A bridge has forgotten a link-layer address that it had learnt on a port: the port is down or gone, or nothing has come from there
    /// for some minutes.
    MacForgotten {
        /// The bridge's index.
        bridge: u32,
        /// The port's index.
        port: u32,
        /// The address.
        mac: [u8; 6],
    },
    /// Events were lost: links, addresses and routes must be read again.
    Overrun,
}
