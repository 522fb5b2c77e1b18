//! The attributes of a route message.

use std::net::Ipv6Addr;

use nix::libc::{
    RTA_DST, RTA_FLOW, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY,
    RTA_TABLE, RTN_UNICAST, RTN_UNREACHABLE,
};

use super::{
    super::{
        super::{NextHop, RouteTarget},
        frame::{attribute_values, ipv6_of, padded, u32_of},
    },
    is_onlink,
};

/// The metric with the MTU (linux/rtnetlink.h).
const RTAX_MTU: u16 = 2;
/// The kind of an encapsulation, and its values (linux/rtnetlink.h).
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;

/// The attributes of a route.
pub(super) struct Fields {
    pub(super) destination: Ipv6Addr,
    pub(super) table: Option<u32>,
    pub(super) metric: u32,
    gateway: Option<Ipv6Addr>,
    link: Option<u32>,
    multipath: Vec<NextHop>,
    pub(super) mtu: Option<u32>,
    /// It has properties that no route of ours has: metrics (`mtu lock`, `advmss`, `hoplimit`), a source address, a realm, an
    /// encapsulation, or weights. The kernel adds none by itself: what it learns of a path's MTU is not in the table.
    pub(super) has_more: bool,
}

impl Fields {
    pub(super) fn read(attributes: &[u8]) -> Self {
        let mut fields = Self {
            destination: Ipv6Addr::UNSPECIFIED,
            table: None,
            metric: 0,
            gateway: None,
            link: None,
            multipath: Vec::new(),
            mtu: None,
            has_more: false,
        };
        for (kind, value) in attribute_values(attributes) {
            match kind {
                RTA_DST => fields.destination = ipv6_of(value).unwrap_or(Ipv6Addr::UNSPECIFIED),
                RTA_TABLE => fields.table = u32_of(value),
                RTA_PRIORITY => fields.metric = u32_of(value).unwrap_or(0),
                RTA_GATEWAY => fields.gateway = ipv6_of(value),
                RTA_OIF => fields.link = u32_of(value),
                RTA_MULTIPATH => (fields.multipath, fields.has_more) = multipath(value, fields.has_more),
                RTA_METRICS => (fields.mtu, fields.has_more) = (mtu(value), true),
                RTA_PREFSRC | RTA_FLOW | RTA_ENCAP | RTA_ENCAP_TYPE => fields.has_more = true,
                _ => {}
            }
        }
        fields
    }

    pub(super) fn target(self, kind: u8, onlink: bool) -> RouteTarget {
        let only = self.link.map(|link| NextHop { gateway: self.gateway, link, onlink });
        match (kind, only) {
            // The kernel adds the index of the loopback interface, which has no meaning.
            (RTN_UNREACHABLE, _) => RouteTarget::Unreachable,
            (RTN_UNICAST, Some(only)) if self.multipath.is_empty() => RouteTarget::Via(only.into()),
            // Without next hops: the route has a nexthop object, and nexthop_compat_mode is off.
            (RTN_UNICAST, None) if self.multipath.is_empty() => RouteTarget::Other(kind),
            (RTN_UNICAST, only) => RouteTarget::Via(self.multipath.into_iter().chain(only).collect()),
            (kind, _) => RouteTarget::Other(kind),
        }
    }
}

/// The MTU among the metrics of a route.
fn mtu(metrics: &[u8]) -> Option<u32> {
    let (_, value) = attribute_values(metrics).find(|(kind, _)| *kind == RTAX_MTU)?;
    u32_of(value).filter(|mtu| *mtu > 0)
}

/// The next hops of RTA_MULTIPATH: each a `struct rtnexthop` (length, flags, hops, index), then attributes. And whether one has a
/// weight, or other attributes than its gateway.
fn multipath(mut bytes: &[u8], mut has_more: bool) -> (Vec<NextHop>, bool) {
    let mut multipath = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<8>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(attributes) = bytes.get(8..len) else {
            break;
        };
        let gateway = attribute_values(attributes).find(|(kind, _)| *kind == RTA_GATEWAY);
        has_more |= head[3] != 0 || attribute_values(attributes).any(|(kind, _)| kind != RTA_GATEWAY);
        multipath.push(NextHop {
            gateway: gateway.and_then(|(_, value)| ipv6_of(value)),
            link: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            onlink: is_onlink(head[2]),
        });
        bytes = bytes.get(padded(len)..).unwrap_or(&[]);
    }
    (multipath, has_more)
}
