//! What a host answers neighbour solicitations for. An agent may say anything: lists are cut off, and texts escaped.

use super::{MOST_UPLINKS, address, octets};
use crate::{
    ndp::{By, Learnt, Mac, NdpAddress, NdpProxy, NdpUplink},
    quoted, v1,
};

/// The most addresses in one answer.
pub const MOST_NDP_ADDRESSES: usize = 1024;
/// The most reasons of an uplink.
const MOST_REASONS: usize = 16;
/// The longest sentence, in characters.
const LONGEST_SENTENCE: usize = 512;

impl From<v1::NdpProxy> for NdpProxy {
    fn from(message: v1::NdpProxy) -> Self {
        let cut = message.addresses.len().saturating_sub(MOST_NDP_ADDRESSES) as u64;
        let addresses = message.addresses.into_iter().take(MOST_NDP_ADDRESSES);
        Self {
            mode: quoted(&message.mode),
            answer: quoted(&message.answer),
            source: quoted(&message.source),
            overrides: message.r#override,
            uplinks: message.uplinks.into_iter().take(MOST_UPLINKS).map(Into::into).collect(),
            in_use: message.in_use,
            addresses: addresses.filter_map(ndp_address).collect(),
            more: message.more.saturating_add(cut),
        }
    }
}

impl From<v1::NdpUplink> for NdpUplink {
    fn from(message: v1::NdpUplink) -> Self {
        let refused = message.refused.into_iter().take(MOST_REASONS);
        Self {
            interface: quoted(&message.interface),
            mac: mac(&message.mac),
            up: message.up,
            heard: message.heard,
            entries: message.entries,
            groups: message.groups,
            multicast: message.multicast,
            unicast: message.unicast,
            detection: message.detection,
            refused: refused.map(|it| (quoted(&it.reason), it.count)).collect(),
            advertised: message.advertised,
        }
    }
}

/// `None` without a valid address.
pub fn ndp_address(message: v1::NdpAddress) -> Option<NdpAddress> {
    use v1::ndp_address::{By as B, Learnt as L};
    let learnt = match message.learnt() {
        L::Unspecified => None,
        L::Engine => Some(Learnt::Engine),
        L::Neighbour => Some(Learnt::Neighbour),
        L::Probe => Some(Learnt::Probe),
        L::Kept => Some(Learnt::Kept),
        L::Bridge => Some(Learnt::Bridge),
    };
    let by = match message.by() {
        B::Nobody => By::Nobody,
        B::Kernel => By::Kernel,
        B::Agent => By::Agent,
    };
    Some(NdpAddress {
        address: address(&message.address).ok()?,
        learnt,
        container: Some(quoted(&message.container)).filter(|name| !name.is_empty()),
        mac: mac(&message.mac),
        since_unix_ms: message.since_unix_ms,
        by,
        why: sentence(&message.why),
        fix: sentence(&message.fix),
    })
}

fn mac(octets: &[u8]) -> Option<Mac> {
    octets.try_into().ok()
}

/// A text of an agent, fit for a terminal.
fn sentence(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE).collect()
}

impl From<&NdpProxy> for v1::NdpProxy {
    fn from(it: &NdpProxy) -> Self {
        let cut = it.addresses.len().saturating_sub(MOST_NDP_ADDRESSES) as u64;
        Self {
            mode: it.mode.clone(),
            answer: it.answer.clone(),
            source: it.source.clone(),
            r#override: it.overrides,
            uplinks: it.uplinks.iter().take(MOST_UPLINKS).map(Into::into).collect(),
            in_use: it.in_use,
            addresses: it.addresses.iter().take(MOST_NDP_ADDRESSES).map(Into::into).collect(),
            more: it.more.saturating_add(cut),
        }
    }
}

impl From<&NdpUplink> for v1::NdpUplink {
    fn from(it: &NdpUplink) -> Self {
        let refusal =
            |(reason, count): &(String, u64)| v1::NdpRefusal { reason: reason.clone(), count: *count };
        Self {
            interface: it.interface.clone(),
            mac: mac_octets(it.mac),
            up: it.up,
            heard: it.heard,
            entries: it.entries,
            groups: it.groups,
            multicast: it.multicast,
            unicast: it.unicast,
            detection: it.detection,
            refused: it.refused.iter().map(refusal).collect(),
            advertised: it.advertised,
        }
    }
}

impl From<&NdpAddress> for v1::NdpAddress {
    fn from(it: &NdpAddress) -> Self {
        use v1::ndp_address::{By as B, Learnt as L};
        let learnt = match it.learnt {
            None => L::Unspecified,
            Some(Learnt::Engine) => L::Engine,
            Some(Learnt::Neighbour) => L::Neighbour,
            Some(Learnt::Probe) => L::Probe,
            Some(Learnt::Kept) => L::Kept,
            Some(Learnt::Bridge) => L::Bridge,
        };
        let by = match it.by {
            By::Nobody => B::Nobody,
            By::Kernel => B::Kernel,
            By::Agent => B::Agent,
        };
        Self {
            address: octets(it.address),
            learnt: learnt.into(),
            container: it.container.clone().unwrap_or_default(),
            mac: mac_octets(it.mac),
            since_unix_ms: it.since_unix_ms,
            by: by.into(),
            why: it.why.clone(),
            fix: it.fix.clone(),
        }
    }
}

fn mac_octets(mac: Option<Mac>) -> bytes::Bytes {
    mac.map(|mac| bytes::Bytes::copy_from_slice(&mac)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(addresses: usize) -> NdpProxy {
        let address = NdpAddress {
            address: "2001:db8::c003".parse().unwrap(),
            learnt: Some(Learnt::Engine),
            container: Some("web".into()),
            mac: Some([2, 0, 0, 0, 0, 9]),
            since_unix_ms: 7,
            by: By::Kernel,
            why: "eth1 is down".into(),
            fix: "ip link set eth1 up".into(),
        };
        let uplink = NdpUplink {
            interface: "eth0".into(),
            mac: Some([2, 0, 0, 0, 0, 2]),
            up: true,
            heard: true,
            entries: 1,
            groups: 2,
            multicast: 3,
            unicast: 4,
            detection: 5,
            refused: vec![("limit".into(), 6)],
            advertised: 7,
        };
        NdpProxy {
            mode: "prefix".into(),
            answer: "live".into(),
            source: "target".into(),
            overrides: true,
            uplinks: vec![uplink],
            in_use: 8,
            addresses: vec![address; addresses],
            more: 9,
        }
    }

    #[test]
    fn they_go_there_and_back() {
        assert_eq!(NdpProxy::from(v1::NdpProxy::from(&proxy(2))), proxy(2));
        let unused = NdpAddress {
            learnt: None,
            container: None,
            mac: None,
            by: By::Nobody,
            ..proxy(1).addresses[0].clone()
        };
        assert_eq!(ndp_address((&unused).into()), Some(unused));
    }

    #[test]
    fn what_an_agent_says_is_cut_off_and_escaped() {
        let sent = v1::NdpProxy::from(&proxy(MOST_NDP_ADDRESSES + 7));
        assert_eq!((sent.addresses.len(), sent.more), (MOST_NDP_ADDRESSES, 16));
        let mut hostile = sent.clone();
        hostile.addresses.extend_from_slice(&sent.addresses);
        hostile.addresses[0].address = vec![1, 2, 3].into();
        hostile.addresses[1].mac = vec![1, 2, 3].into();
        hostile.addresses[1].why = "a\u{1b}[2Jb".repeat(1000);
        hostile.uplinks = vec![sent.uplinks[0].clone(); 1000];
        hostile.uplinks[0].refused = vec![sent.uplinks[0].refused[0].clone(); 1000];
        hostile.more = u64::MAX;
        let taken = NdpProxy::from(hostile);
        assert_eq!((taken.addresses.len(), taken.more), (MOST_NDP_ADDRESSES - 1, u64::MAX));
        assert_eq!((taken.uplinks.len(), taken.uplinks[0].refused.len()), (MOST_UPLINKS, MOST_REASONS));
        let why = &taken.addresses[0].why;
        assert!(taken.addresses[0].mac.is_none() && why.len() <= LONGEST_SENTENCE && !why.contains('\u{1b}'));
    }
}
