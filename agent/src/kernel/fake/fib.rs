//! The routing tables of a fake kernel, by the rules of net/ipv6/ip6_fib.c that the agent can encounter. `agent/tests/kernel`
//! compares them with the real kernel.

use std::{collections::BTreeMap, net::Ipv6Addr};

use nix::libc::{EEXIST, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, ESRCH};

use super::super::{Address, Errno, Link, NextHop, Route, RouteKey, RouteProtocol, RouteTarget};

/// The flags with which a route is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// NLM_F_CREATE | NLM_F_EXCL.
    Add,
    /// NLM_F_REPLACE.
    Replace,
    /// NLM_F_CREATE | NLM_F_REPLACE, as `ip route replace` does.
    ReplaceOrAdd,
    /// NLM_F_CREATE | NLM_F_APPEND, as `ip route append` does: adds a next hop to an existing route.
    Append,
}

/// The links and addresses by which next hops are checked.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// By index.
    pub links: BTreeMap<u32, Link>,
    /// Of all links.
    pub addresses: Vec<Address>,
}

/// All routing tables.
#[derive(Debug, Default)]
pub struct Fib {
    /// By key, and the link of a connected route: each link may have one for the same prefix.
    routes: BTreeMap<(RouteKey, u32), Route>,
}

/// The link of a connected route; 0 for others.
fn connected_link(route: &Route) -> u32 {
    match &route.target {
        RouteTarget::Via(hops) if route.protocol == RouteProtocol::KERNEL => {
            hops.iter().next().map_or(0, |hop| hop.link)
        }
        _ => 0,
    }
}

impl Fib {
    /// All routes, by their keys.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// The route of a key; of several connected ones, the first.
    pub fn route(&self, key: RouteKey) -> Option<&Route> {
        self.routes.range((key, 0)..=(key, u32::MAX)).next().map(|(_, route)| route)
    }

    /// The route of a packet: the longest prefix, then the lowest metric.
    pub fn lookup(&self, table: u32, destination: Ipv6Addr) -> Result<Route, Errno> {
        let covers = |route: &&Route| route.key.table == table && route.key.destination.contains(destination);
        let taken = self
            .routes()
            .filter(covers)
            .min_by_key(|route| (std::cmp::Reverse(route.key.destination.len()), route.key.metric));
        match taken {
            None => Err(errno(ENETUNREACH)),
            Some(route) if route.target == RouteTarget::Unreachable => Err(errno(EHOSTUNREACH)),
            Some(route) => Ok(route.clone()),
        }
    }

    /// Puts a route into its table, whatever the protocol of an existing one. Returns the resulting route.
    pub fn put(&mut self, route: Route, how: Put, interfaces: &Interfaces) -> Result<Route, Errno> {
        self.check(&route, interfaces)?;
        let link = connected_link(&route);
        let existing = if link == 0 { self.route(route.key) } else { self.routes.get(&(route.key, link)) };
        let new = match (how, existing) {
            (Put::Add, Some(_)) => return Err(errno(EEXIST)),
            (Put::Replace, None) => return Err(errno(ENOENT)),
            (Put::Append, Some(existing)) => merged(existing, &route)?,
            _ => route,
        };
        let before = existing.map(|before| (before.key, connected_link(before)));
        before.map(|before| self.routes.remove(&before));
        self.routes.insert((new.key, connected_link(&new)), new.clone());
        Ok(new)
    }

    /// Deletes a route; with a protocol, only a route of that protocol.
    pub fn remove(&mut self, key: RouteKey, protocol: Option<RouteProtocol>) -> Result<Route, Errno> {
        match self.route(key) {
            Some(route) if protocol.is_none_or(|protocol| protocol == route.protocol) => {
                let slot = (key, connected_link(route));
                self.routes.remove(&slot).ok_or_else(|| errno(ESRCH))
            }
            _ => Err(errno(ESRCH)),
        }
    }

    /// Deletes the connected route of a link.
    pub fn remove_connected(&mut self, key: RouteKey, link: u32) -> Option<Route> {
        self.routes.remove(&(key, link))
    }

    /// Deletes the routes of a link that was set down: those without a next hop on another link.
    pub fn link_down(&mut self, index: u32) -> Vec<Route> {
        let over_it = |route: &Route| matches!(&route.target, RouteTarget::Via(hops) if hops.iter().all(|hop| hop.link == index));
        let gone: Vec<Route> = self.routes().filter(|route| over_it(route)).cloned().collect();
        for route in &gone {
            self.routes.remove(&(route.key, connected_link(route)));
        }
        gone
    }

    /// Deletes the next hops over a deleted link, and routes without remaining next hops. Returns the kernel's
    /// notifications: each deleted next hop as a separate route.
    pub fn link_gone(&mut self, index: u32) -> Vec<Route> {
        let mut deleted = self.link_down(index);
        for route in self.routes.values_mut() {
            let RouteTarget::Via(hops) = &mut route.target else {
                continue;
            };
            let (key, protocol) = (route.key, route.protocol);
            let (gone, left): (Vec<_>, Vec<_>) = hops.iter().partition(|hop| hop.link == index);
            *hops = left.into_iter().collect();
            let target = |hop: NextHop| RouteTarget::Via(hop.into());
            deleted.extend(gone.into_iter().map(|hop| Route {
                key,
                protocol,
                target: target(hop),
                mtu: None,
            }));
        }
        deleted
    }
}

/// The result of an append: a route with the next hops of both, and the protocol of the existing one.
fn merged(existing: &Route, appended: &Route) -> Result<Route, Errno> {
    let (RouteTarget::Via(before), RouteTarget::Via(more)) = (&existing.target, &appended.target) else {
        panic!("the fake kernel cannot have two routes with one key: {existing:?} and {appended:?}");
    };
    if more.iter().any(|hop| before.contains(hop)) {
        return Err(errno(EEXIST));
    }
    Ok(Route { target: RouteTarget::Via(before.iter().chain(more).copied().collect()), ..existing.clone() })
}

impl Fib {
    /// Checks a route as the kernel does: its key is valid, and its next hops are reachable.
    fn check(&self, route: &Route, interfaces: &Interfaces) -> Result<(), Errno> {
        if route.key.metric == 0 || route.key.table == 0 {
            return Err(errno(EINVAL));
        }
        match &route.target {
            RouteTarget::Via(hops) if hops.is_empty() => Err(errno(EINVAL)),
            RouteTarget::Via(hops) => hops.iter().try_for_each(|hop| self.check_hop(*hop, interfaces)),
            RouteTarget::Unreachable | RouteTarget::Other(_) => Ok(()),
        }
    }

    fn check_hop(&self, hop: NextHop, interfaces: &Interfaces) -> Result<(), Errno> {
        let link = interfaces.links.get(&hop.link).ok_or_else(|| errno(ENODEV))?;
        match hop.gateway {
            _ if !link.up => Err(errno(ENETDOWN)),
            Some(gateway) if gateway.is_multicast() || interfaces.is_own(gateway) => Err(errno(EINVAL)),
            Some(gateway) if !hop.onlink && !self.is_on_link(gateway, hop.link) => Err(errno(EHOSTUNREACH)),
            _ => Ok(()),
        }
    }

    /// Whether the longest route over the link to it has no gateway.
    fn is_on_link(&self, gateway: Ipv6Addr, link: u32) -> bool {
        let over_it = |route: &&Route| match &route.target {
            RouteTarget::Via(hops) => hops.iter().any(|hop| hop.link == link),
            _ => false,
        };
        let covering = self.routes().filter(over_it).filter(|route| route.key.destination.contains(gateway));
        let taken =
            covering.min_by_key(|route| (std::cmp::Reverse(route.key.destination.len()), route.key.metric));
        let direct = NextHop { gateway: None, link, onlink: false };
        gateway.is_unicast_link_local()
            || taken.is_some_and(
                |route| matches!(&route.target, RouteTarget::Via(hops) if hops.contains(&direct)),
            )
    }
}

impl Interfaces {
    fn is_own(&self, gateway: Ipv6Addr) -> bool {
        self.addresses.iter().any(|address| address.addr == gateway)
    }
}

/// An errno without text.
pub fn errno(code: i32) -> Errno {
    Errno { code, detail: String::new() }
}
