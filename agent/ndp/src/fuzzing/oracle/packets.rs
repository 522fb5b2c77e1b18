//! What the packets have to be that the host sends.

use std::net::Ipv6Addr;

use super::super::rfc::{self, Read, group, group_mac};
use crate::{
    message::Mac,
    proxy::{Place, Sent, Source},
    targets::Seat,
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// An advertisement on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advertised {
    link: u32,
    to: Mac,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    solicited: bool,
}

impl Advertised {
    pub(super) fn target(&self) -> Ipv6Addr {
        self.target
    }

    /// The answer to a solicitation of this source; to a probe, all are answered (RFC 4861 §7.2.4).
    pub(super) fn answer(link: u32, target: Ipv6Addr, source: Ipv6Addr, mac: Mac) -> Self {
        if source.is_unspecified() {
            return Self { link, to: group_mac(ALL_NODES), destination: ALL_NODES, target, solicited: false };
        }
        Self { link, to: mac, destination: source, target, solicited: true }
    }

    /// On each link that has the address, to nodes and routers (RFC 9131 §6.1.2).
    pub(super) fn announcements(place: &Place, target: Ipv6Addr) -> Vec<Self> {
        let is_off =
            |link: u32| place.off_link.iter().any(|(at, prefix)| *at == link && prefix.contains(target));
        let links = place.uplinks.iter().map(|uplink| uplink.link).filter(|link| !is_off(*link));
        let to = |link, destination| Self {
            link,
            to: group_mac(destination),
            destination,
            target,
            solicited: false,
        };
        links.flat_map(|link| [to(link, ALL_NODES), to(link, ALL_ROUTERS)]).collect()
    }
}

/// Reads what was sent on uplinks: valid advertisements of the host.
pub(super) fn read_all(place: &Place, sent: &[Sent]) -> Result<Vec<Advertised>, String> {
    sent.iter().map(|it| read(place, it)).collect()
}

fn read(place: &Place, sent: &Sent) -> Result<Advertised, String> {
    let it = valid(sent, 136)?;
    let uplink =
        place.uplinks.iter().find(|uplink| uplink.link == sent.link).ok_or("sent on another link")?;
    let source = if place.source == Source::Target { it.target } else { uplink.source };
    let (overrides, known) = (place.overrides(it.target), it.flags & (ROUTER | OVERRIDE));
    if known != ROUTER | if overrides { OVERRIDE } else { 0 } || it.flags & 0x1f != 0 {
        return Err(format!("flags {:x}", it.flags));
    }
    if it.source != source || it.mac != Some(uplink.mac) {
        return Err(format!("not from this host: {it:?}"));
    }
    let solicited = it.flags & SOLICITED != 0;
    Ok(Advertised { link: sent.link, to: sent.to, destination: it.destination, target: it.target, solicited })
}

/// It asks containers that may have the address, or one of them.
pub(super) fn is_our_solicitation(
    place: &Place,
    sent: &Sent,
    is_there: impl Fn(Ipv6Addr, Seat) -> bool,
) -> Result<(), String> {
    let it = valid(sent, 135)?;
    let bridge =
        place.bridges.iter().find(|bridge| bridge.link == sent.link).ok_or("asked on another link")?;
    let to_group = sent.to == group_mac(group(it.target));
    let is_from_bridge = it.source == bridge.source && it.mac == Some(bridge.mac);
    let to_one = is_there(it.target, (sent.link, sent.to));
    if is_from_bridge && bridge.has(it.target) && it.destination == group(it.target) && (to_group || to_one) {
        return Ok(());
    }
    Err(format!("asked to {:?}: {it:?}", sent.to))
}

fn valid(sent: &Sent, kind: u8) -> Result<Read, String> {
    let it = rfc::read(&sent.packet).filter(|it| it.kind == kind);
    it.ok_or_else(|| format!("an invalid packet was sent: {sent:?}"))
}
