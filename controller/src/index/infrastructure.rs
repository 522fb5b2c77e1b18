//! What the cluster stands on: the addresses of hosts, of the links between them, and of controllers. No host prefix may
//! contain one (DESIGN §2): its holder would take it from all others. Pure.

use std::{
    collections::{
        BTreeMap, BTreeSet,
        btree_map::Entry::{Occupied, Vacant},
    },
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use sextant_proto::{InterfaceAddress, NodeName, Prefix};

use super::Few;
use crate::records::{ControllerRecord, NodeRecord};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A host, as it has announced.
    Host(NodeName),
    /// A controller, by its id.
    Controller(String),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(node) => write!(f, "node {node}"),
            Self::Controller(id) => write!(f, "controller {id}"),
        }
    }
}

/// The addresses, and who has them.
#[derive(Debug, Default)]
pub struct Infrastructure {
    users: BTreeMap<Ipv6Addr, Few<User>>,
    /// In their order.
    addresses: BTreeMap<User, Box<[Ipv6Addr]>>,
}

/// The addresses that appeared and that went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) new: Vec<Ipv6Addr>,
    pub(super) gone: Vec<Ipv6Addr>,
}

impl Infrastructure {
    /// The first address in `prefix`, and who has it.
    pub fn inside(&self, prefix: Prefix) -> Option<(Ipv6Addr, &User)> {
        self.all_inside(prefix).next()
    }

    /// The addresses in `prefix`, in their order, and who has each.
    pub fn all_inside(&self, prefix: Prefix) -> impl Iterator<Item = (Ipv6Addr, &User)> {
        let users = self.users.range(prefix.addr()..=prefix.last_addr());
        users.filter_map(|(address, users)| Some((*address, users.iter().next()?)))
    }

    /// The largest part of `prefix` without an address.
    pub fn largest_without(&self, prefix: Prefix) -> Option<Prefix> {
        let mut largest: Option<Prefix> = None;
        let mut parts = vec![prefix];
        while let Some(part) = parts.pop() {
            if largest.is_some_and(|largest| largest.len() <= part.len()) {
                continue;
            }
            if self.inside(part).is_none() {
                largest = Some(part);
            } else {
                parts.extend((0..2).filter_map(|half| part.nth(part.len() + 1, half)));
            }
        }
        largest
    }

    /// `user` has exactly these addresses from now on.
    pub(super) fn put(&mut self, user: User, addresses: BTreeSet<Ipv6Addr>) -> Difference {
        let before: BTreeSet<_> = self.addresses.remove(&user).into_iter().flatten().collect();
        let mut difference = Difference::default();
        for &address in addresses.difference(&before) {
            match self.users.entry(address) {
                Vacant(unused) => {
                    unused.insert(Few::One(user.clone()));
                    difference.new.push(address);
                }
                Occupied(mut used) => used.get_mut().insert(user.clone()),
            }
        }
        for &address in before.difference(&addresses) {
            if let Occupied(mut used) = self.users.entry(address)
                && used.get_mut().remove(&user)
            {
                used.remove();
                difference.gone.push(address);
            }
        }
        if !addresses.is_empty() {
            self.addresses.insert(user, addresses.into_iter().collect());
        }
        difference
    }
}

/// The addresses that a host stands on: its own, and the first one of each link, which is that of the link's routers
/// (RFC 4291 §2.6.1).
pub(super) fn of_node(node: &NodeRecord) -> BTreeSet<Ipv6Addr> {
    let addresses = node.uplinks.iter().flat_map(|uplink| &uplink.addresses);
    let both = addresses.flat_map(|InterfaceAddress { addr, on_link }| [*addr, on_link.addr()]);
    both.filter(|addr| !addr.is_unicast_link_local() && !addr.is_unspecified()).collect()
}

/// The address that a controller listens on; none if it listens on all of its host's.
pub(super) fn of_controller(controller: &ControllerRecord) -> BTreeSet<Ipv6Addr> {
    let address: Option<SocketAddr> = controller.address.parse().ok();
    let address = address.and_then(|address| match address.ip() {
        IpAddr::V6(addr) => Some(addr),
        IpAddr::V4(_) => None,
    });
    address.into_iter().filter(|addr| !addr.is_unspecified() && !addr.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use sextant_proto::{NodeId, Uplink};

    use super::*;
    use crate::records::HeldClaim;

    fn host(n: u8) -> User {
        User::Host(format!("h{n}").parse().unwrap())
    }

    fn addresses(texts: &[&str]) -> BTreeSet<Ipv6Addr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_is_in_use_until_its_last_user_is_gone() {
        let mut it = Infrastructure::default();
        let two = it.put(host(1), addresses(&["2001:db8::1", "2001:db8::"]));
        assert_eq!(
            two.new,
            [Ipv6Addr::from_bits(0x2001_0db8 << 96), "2001:db8::1".parse::<Ipv6Addr>().unwrap()]
        );
        let one = it.put(host(2), addresses(&["2001:db8::2", "2001:db8::"]));
        assert_eq!((one.new.len(), one.gone.len()), (1, 0));
        let (address, user) = it.inside("2001:db8::2/127".parse().unwrap()).unwrap();
        assert_eq!((address.to_string().as_str(), user), ("2001:db8::2", &host(2)));
        assert_eq!(it.put(host(1), BTreeSet::new()).gone, ["2001:db8::1".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(
            it.put(host(2), addresses(&["2001:db8::2"])).gone,
            ["2001:db8::".parse::<Ipv6Addr>().unwrap()]
        );
        it.put(host(2), BTreeSet::new());
        assert!(it.users.is_empty() && it.addresses.is_empty());
    }

    #[test]
    fn the_largest_part_without_an_address_is_named() {
        let mut it = Infrastructure::default();
        let pool: Prefix = "2001:db8::/32".parse().unwrap();
        assert_eq!(it.largest_without(pool), Some(pool));
        it.put(host(1), addresses(&["2001:db8::1", "2001:db8::"]));
        assert_eq!(it.largest_without(pool).unwrap().to_string(), "2001:db8:8000::/33");
        it.put(host(2), addresses(&["2001:db8:8000::1"]));
        assert_eq!(it.largest_without(pool).unwrap().len(), 34);
        it.put(host(3), addresses(&["2001:db8::"]));
        assert_eq!(it.largest_without("2001:db8::/128".parse().unwrap()), None);
    }

    #[test]
    fn a_host_stands_on_its_addresses_and_on_those_of_its_links_routers() {
        let address = |addr: &str, len| {
            let addr = addr.parse().unwrap();
            InterfaceAddress { addr, on_link: Prefix::containing(addr, len).unwrap() }
        };
        let all = vec![address("2001:db8::1", 64), address("2001:db8:5::7", 128), address("fe80::1", 64)];
        let uplinks = vec![Uplink { interface: "eth0".into(), addresses: all }];
        let claim = HeldClaim::new("2001:db8:8000::/64".parse().unwrap(), "main".parse().unwrap());
        let node = NodeRecord { uplinks, ..NodeRecord::new(NodeId::random(), claim) };
        assert_eq!(of_node(&node), addresses(&["2001:db8::1", "2001:db8::", "2001:db8:5::7"]));
    }

    #[test]
    fn a_controller_that_listens_on_all_addresses_tells_none() {
        let of = |address: &str| {
            let record = ControllerRecord { address: address.into(), version: String::new(), tls: None };
            of_controller(&record)
        };
        assert_eq!(of("[2001:db8::c]:7300"), addresses(&["2001:db8::c"]));
        for none in ["[::]:7300", "[::1]:7300", "192.0.2.1:7300", "c.example:7300"] {
            assert!(of(none).is_empty(), "{none}");
        }
    }
}
