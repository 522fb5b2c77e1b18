//! Where the controllers of the store are reached: agents learn it, so that all of their controllers may be replaced one by one. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::{
    index::State,
    records::{ControllerRecord, TlsMode},
    sessions::Identity,
};

/// The most that agents are sent.
const MOST: usize = 16;

/// An address of a controller, and what is spoken there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    address: SocketAddr,
    tls: TlsMode,
}

/// Those of the controllers in the store, this one among them.
pub(super) fn of(state: &State, me: &Identity) -> Vec<Reached> {
    let others = state.controllers().values().map(|it| &it.record);
    let mut all: Vec<_> = others.filter_map(reached).collect();
    all.extend(reached_at(&me.address, me.tls));
    all.sort();
    all.dedup();
    all
}

/// Their URLs for an agent that speaks TLS, or does not.
pub fn urls(all: &[Reached], over_tls: bool) -> Vec<String> {
    let speaks = |it: &&Reached| it.tls != if over_tls { TlsMode::Off } else { TlsMode::Strict };
    let scheme = if over_tls { "https" } else { "http" };
    all.iter().filter(speaks).take(MOST).map(|it| format!("{scheme}://{}", it.address)).collect()
}

/// A controller of an earlier version does not tell what it speaks.
fn reached(record: &ControllerRecord) -> Option<Reached> {
    reached_at(&record.address, record.tls?)
}

/// Other hosts reach no controller at an unspecified or loopback address.
fn reached_at(address: &str, tls: TlsMode) -> Option<Reached> {
    let address: SocketAddr = address.parse().ok()?;
    let IpAddr::V6(ip) = address.ip() else { return None };
    let elsewhere = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_unicast_link_local();
    elsewhere.then_some(Reached { address, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sent_what_they_can_reach_in_their_own_way() {
        let at = |address: &str, tls| reached_at(address, tls);
        for useless in ["[::]:7300", "[::1]:7300", "[fe80::1]:7300", "192.0.2.1:7300", "c1.example:7300"] {
            assert_eq!(at(useless, TlsMode::Strict), None, "{useless}");
        }
        let all: Vec<_> = [(1, TlsMode::Off), (2, TlsMode::Warn), (3, TlsMode::Strict)]
            .into_iter()
            .filter_map(|(n, tls)| at(&format!("[2001:db8::c:{n}]:7300"), tls))
            .collect();
        assert_eq!(urls(&all, false), ["http://[2001:db8::c:1]:7300", "http://[2001:db8::c:2]:7300"]);
        assert_eq!(urls(&all, true), ["https://[2001:db8::c:2]:7300", "https://[2001:db8::c:3]:7300"]);
        let record =
            ControllerRecord { address: "[2001:db8::c:1]:7300".into(), version: "0.1.0".into(), tls: None };
        assert_eq!(reached(&record), None, "an earlier version");
    }
}
