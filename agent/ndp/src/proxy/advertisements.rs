//! Which advertisements are sent, and to which receivers. Pure.

use std::net::Ipv6Addr;

use super::{Proxy, Sent, Uplink};
use crate::message::{ALL_NODES, ALL_ROUTERS, Advertisement, Mac, advertisement, multicast_mac};

impl Proxy {
    /// The answer to a solicitation; to one without source it goes to all (RFC 4861 §7.2.4).
    pub(super) fn answer(&self, uplink: &Uplink, target: Ipv6Addr, to: Ipv6Addr, mac: Mac) -> Sent {
        let solicited = !to.is_unspecified();
        let (destination, mac) = if solicited { (to, mac) } else { (ALL_NODES, multicast_mac(ALL_NODES)) };
        self.advertisement(uplink, target, destination, mac, solicited)
    }

    /// Tells all neighbours and routers of an address that has come into use (RFC 9131 §6.1.2).
    pub fn announcements(&self, target: Ipv6Addr) -> Vec<Sent> {
        let groups = [ALL_NODES, ALL_ROUTERS];
        let uplinks = self.place.uplinks.iter().filter(|uplink| self.place.is_on_link(uplink.link, target));
        let all = uplinks.flat_map(|uplink| groups.map(|group| (uplink, group)));
        all.map(|(uplink, group)| self.advertisement(uplink, target, group, multicast_mac(group), false))
            .collect()
    }

    fn advertisement(
        &self,
        uplink: &Uplink,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        to: Mac,
        solicited: bool,
    ) -> Sent {
        let source = self.place.source_of(uplink, target);
        let overrides = self.place.overrides(target);
        let it = Advertisement { source, destination, target, mac: uplink.mac, solicited, overrides };
        Sent { link: uplink.link, to, packet: advertisement(&it) }
    }
}
