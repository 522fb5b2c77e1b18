//! What a host answers neighbour solicitations for.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::ndp::{self, mac_text};

use super::{filled, known};

/// How a host answers neighbour solicitations for its containers.
#[derive(Debug, Serialize)]
pub(super) struct Ndp<'a> {
    mode: &'a str,
    answer: &'a str,
    source: &'a str,
    r#override: bool,
    in_use: u64,
    uplinks: Vec<NdpUplink<'a>>,
}

/// An uplink.
#[derive(Debug, Serialize)]
struct NdpUplink<'a> {
    interface: &'a str,
    mac: Option<String>,
    up: bool,
    heard: bool,
    entries: u64,
    groups: u64,
    answered: NdpAnswered,
    refused: Vec<NdpRefusal<'a>>,
    advertised: u64,
}

/// The answers of an agent.
#[derive(Debug, Serialize)]
struct NdpAnswered {
    multicast: u64,
    unicast: u64,
    dad: u64,
}

/// Why solicitations were not answered by an agent.
#[derive(Debug, Serialize)]
struct NdpRefusal<'a> {
    reason: &'a str,
    count: u64,
}

/// An address.
#[derive(Debug, Serialize)]
pub(super) struct NdpAddress<'a> {
    address: Ipv6Addr,
    answered_by: &'static str,
    learnt: Option<&'static str>,
    container: Option<&'a str>,
    mac: Option<String>,
    since_unix_ms: Option<u64>,
    why: Option<&'a str>,
    fix: Option<&'a str>,
}

impl<'a> From<&'a ndp::NdpProxy> for Ndp<'a> {
    fn from(it: &'a ndp::NdpProxy) -> Self {
        Self {
            mode: &it.mode,
            answer: &it.answer,
            source: &it.source,
            r#override: it.overrides,
            in_use: it.in_use,
            uplinks: it.uplinks.iter().map(NdpUplink::from).collect(),
        }
    }
}

impl<'a> From<&'a ndp::NdpUplink> for NdpUplink<'a> {
    fn from(it: &'a ndp::NdpUplink) -> Self {
        let refusal = |(reason, count): &'a (String, u64)| NdpRefusal { reason, count: *count };
        Self {
            interface: &it.interface,
            mac: it.mac.map(mac_text),
            up: it.up,
            heard: it.heard,
            entries: it.entries,
            groups: it.groups,
            answered: NdpAnswered { multicast: it.multicast, unicast: it.unicast, dad: it.detection },
            refused: it.refused.iter().map(refusal).collect(),
            advertised: it.advertised,
        }
    }
}

impl<'a> From<&'a ndp::NdpAddress> for NdpAddress<'a> {
    fn from(it: &'a ndp::NdpAddress) -> Self {
        Self {
            address: it.address,
            answered_by: it.by.text(),
            learnt: it.learnt.map(ndp::Learnt::text),
            container: it.container.as_deref(),
            mac: it.mac.map(mac_text),
            since_unix_ms: known(it.since_unix_ms),
            why: filled(&it.why),
            fix: filled(&it.fix),
        }
    }
}
