//! A second segment beside the switch's: its hosts reach the hosts of the first one only through a router.

use std::{net::Ipv6Addr, ops::Deref};

use super::{Lab, host::Host};

/// The router's address on the second segment: the gateway of its hosts.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0xb, 0, 0, 0xfe, 1);

/// The segment `2001:db8:0:b::/64`, on a bridge `br1` that is not connected to `br0`.
#[derive(Debug)]
pub struct Segment<'a> {
    lab: &'a Lab,
}

impl Lab {
    /// Creates a second segment, connected to `eth1` of `router`. The controllers, on the first segment, reach it through the
    /// router.
    ///
    /// # Errors
    /// If there already is one or `ip` fails.
    pub fn second_segment(&self, router: &Host) -> anyhow::Result<Segment<'_>> {
        self.switch().ip_batch(&format!(
            "link add br1 type bridge mcast_snooping 0
             link set br1 up
             link add prouter1 type veth peer name eth1 netns {}
             link set prouter1 master br1 up
             route add 2001:db8:0:b::/64 via {}",
            router.deref().name(),
            router.address()
        ))?;
        router.ip_batch(&format!("address add {GATEWAY}/64 dev eth1 nodad\nlink set eth1 up"))?;
        Ok(Segment { lab: self })
    }
}

impl Segment<'_> {
    /// Adds a host at `2001:db8:0:b::<number>`, with a default route via the router.
    ///
    /// # Errors
    /// If the name is taken or `ip` fails.
    pub fn host(&self, name: &str, number: u16) -> anyhow::Result<Host> {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0xb, 0, 0, 0, number);
        let host = Host::add_on(self.lab, name, &format!("pb{number}"), "br1", address)?;
        host.default_route_via(GATEWAY)?;
        Ok(host)
    }
}
