//! Link-local addresses. Without one, the kernel sends no neighbour solicitation for a packet that it forwards (it has no source
//! address, `ndisc_solicit`): only neighbours that are known already are reached.
//!
//! The kernel adds one when a link gets carrier, unless `addr_gen_mode` is 1. That of the bridge is restored; an uplink or
//! an engine's bridge is not the agent's, so that its loss is reported.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use sextant_proto::{Claim, link_name_word};
use tokio::time::Instant;

use super::{
    HostSetup, SetupError,
    drift::link_local_of,
    sysctls::{self, of_interface},
};
use crate::{
    damping::Change,
    kernel::{Address, Link},
    problems::Finding,
    state::BridgeAddress,
};

/// A link with new carrier gets its address within a second (`linkwatch`).
const KERNEL_FIRST: Duration = Duration::from_secs(2);
/// IN6_ADDR_GEN_MODE_NONE: the kernel adds none.
const NONE: &str = "1";
/// The length of its on-link prefix.
const LEN: u8 = 64;

/// The links that have carrier and no link-local address, since when.
#[derive(Debug, Default)]
pub(super) struct Missing(BTreeMap<String, Instant>);

impl Missing {
    /// Whether a link that has none is not about to get one from the kernel.
    fn lasts(&mut self, name: &str, now: Instant) -> bool {
        now >= *self.0.entry(name.to_owned()).or_insert(now) + KERNEL_FIRST
    }

    fn is_over(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Whether one lasts by now, which did not at the last check.
    pub(super) fn is_due(&self, checked: Option<Instant>, now: Instant) -> bool {
        self.0.values().any(|since| {
            let due = *since + KERNEL_FIRST;
            now >= due && checked.is_none_or(|checked| checked < due)
        })
    }
}

impl HostSetup {
    /// Restores the link-local address of the bridge.
    pub(super) async fn ensure_link_local(
        &mut self,
        bridge: &Link,
        addresses: &[Address],
    ) -> Result<(), SetupError> {
        let what = link_local_of(&bridge.name);
        if let Some(found) = of_link(bridge, addresses).next() {
            self.link_locals.is_over(&bridge.name);
            self.drift.is_right(&what, &found.addr.to_string());
            return Ok(());
        }
        let (before, now) = (self.drift.right(&what).and_then(|addr| addr.parse().ok()), Instant::now());
        let Some(addr) = before.or_else(|| by_mac(&bridge.mac)) else { return Ok(()) };
        let by_kernel = || {
            Ok::<_, SetupError>(
                self.kernel
                    .sysctl(&of_interface(&bridge.name, "addr_gen_mode"))?
                    .is_none_or(|mode| mode != NONE),
            )
        };
        let held = match before {
            Some(_) => self.drift.holds(&what, now),
            None => by_kernel()? && (!bridge.carrier || !self.link_locals.lasts(&bridge.name, now)),
        };
        if held {
            return Ok(());
        }
        let address = BridgeAddress { interface: bridge.name.clone(), addr, len: LEN };
        self.record(|ledger| {
            if !ledger.addresses.contains(&address) {
                ledger.addresses.push(address);
            }
        })?;
        self.kernel.add_address(bridge.index, addr, LEN).await?;
        self.link_locals.is_over(&bridge.name);
        if before.is_some() {
            self.restored(&what, "removed", &format!("{addr}/{LEN}"), Change::Forwarding);
        } else {
            self.drift.is_right(&what, &addr.to_string());
            tracing::info!(bridge = bridge.name, address = %format_args!("{addr}/{LEN}"), "bridge address added");
        }
        Ok(())
    }

    /// Reports the links of others without one: the uplinks, and those of an engine's networks in the host prefixes.
    pub(super) fn check_link_locals(&mut self, claims: &[Claim], links: &[Link], addresses: &[Address]) {
        let (now, mut found) = (Instant::now(), Vec::new());
        for link in links.iter().filter(|link| link.name != self.settings.bridge) {
            let role = match &link.name {
                name if self.settings.uplinks.contains(name) => "uplink",
                _ if has_network(link, addresses, claims) => "interface",
                _ => continue,
            };
            match without(role, link, addresses) {
                Some(finding) if self.link_locals.lasts(&link.name, now) => found.push(finding),
                Some(_) => {}
                None => self.link_locals.is_over(&link.name),
            }
        }
        self.link_locals_checked = Some(now);
        self.found.link_locals = found;
    }
}

/// Whether the link has an address in a host prefix.
fn has_network(link: &Link, addresses: &[Address], claims: &[Claim]) -> bool {
    let inside = |it: &Address| claims.iter().any(|claim| claim.prefix.contains(it.addr));
    addresses.iter().any(|it| it.link == link.index && it.len < 128 && inside(it))
}

/// The finding of a link of this role without a link-local address. A link without IPv6, or without a MAC address, needs none.
pub fn without(role: &str, link: &Link, addresses: &[Address]) -> Option<Finding> {
    let usable = of_link(link, addresses).any(|it| !it.dad_failed);
    let has_ipv6 = addresses.iter().any(|it| it.link == link.index);
    let addr = by_mac(&link.mac).filter(|_| link.up && link.carrier && has_ipv6 && !usable)?;
    let (name, word) = (&link.name, link_name_word(&link.name));
    let sends = "the kernel sends no neighbour solicitations for packets that it forwards, so that packets of containers to \
                 neighbours on it are lost";
    let Some(duplicate) = of_link(link, addresses).next() else {
        return Some(Finding::new(
            "link-local-missing",
            format!("{role} {name} has no link-local address: {sends}"),
            format!(
                "add one again: `ip -6 address add {addr}/{LEN} dev {word}`, and find the process that removed it, or that set \
                 {} = 1",
                sysctls::argument(&of_interface(name, "addr_gen_mode"))
            ),
        ));
    };
    let addr = duplicate.addr;
    Some(Finding::new(
        "link-local-duplicate",
        format!("another host on the link of {role} {name} uses its link-local address {addr}: {sends}"),
        format!(
            "find that host (`ip -6 neigh show {addr} dev {word}` on a third host), and give one of the two another MAC address; \
             then on this host: `ip link set {word} down`, `ip link set {word} up`, and add its other addresses again"
        ),
    ))
}

fn of_link<'a>(link: &Link, addresses: &'a [Address]) -> impl Iterator<Item = &'a Address> {
    let index = link.index;
    addresses.iter().filter(move |it| it.link == index && it.addr.is_unicast_link_local())
}

/// The address by the MAC address (RFC 4291 appendix A).
fn by_mac(mac: &[u8]) -> Option<Ipv6Addr> {
    let &[a, b, c, d, e, f] = mac else { return None };
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Some(Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::permanent;

    #[test]
    fn an_uplink_with_ipv6_and_carrier_needs_a_link_local_address() {
        let link = Link { index: 2, name: "eth0".into(), up: true, carrier: true, ..Link::default() };
        let link = Link { mac: vec![2, 0, 0, 0, 0, 9], ..link };
        let global = permanent(2, "2001:db8::1".parse().unwrap(), 64);
        let local = Address { global: false, ..permanent(2, "fe80::9".parse().unwrap(), 64) };
        let other = Address { link: 3, ..local.clone() };
        let tentative = Address { tentative: true, ..local.clone() };
        let failed = Address { dad_failed: true, ..tentative.clone() };
        let found = |link: &Link, addresses: &[&Address]| {
            let addresses: Vec<_> = addresses.iter().map(|it| (*it).clone()).collect();
            without("uplink", link, &addresses).map(|it| it.what)
        };
        assert_eq!(found(&link, &[&global, &other]), Some("link-local-missing"));
        assert_eq!(found(&link, &[&global, &failed]), Some("link-local-duplicate"));
        for addresses in [&[&global, &local][..], &[&global, &tentative], &[&local], &[]] {
            assert_eq!(found(&link, addresses), None);
        }
        for right in [
            Link { up: false, ..link.clone() },
            Link { carrier: false, ..link.clone() },
            Link { mac: vec![], ..link.clone() },
        ] {
            assert_eq!(found(&right, &[&global]), None, "{right:?}");
        }
        let fix = without("uplink", &link, &[global]).unwrap().fix;
        assert!(fix.contains("`ip -6 address add fe80::ff:fe00:9/64 dev eth0`"), "{fix}");
    }

    #[test]
    fn the_kernel_has_time_to_add_one() {
        let (mut missing, start) = (Missing::default(), Instant::now());
        assert!(!missing.lasts("br0", start) && !missing.lasts("br0", start + KERNEL_FIRST / 2));
        assert!(!missing.is_due(Some(start), start + KERNEL_FIRST / 2));
        assert!(missing.is_due(Some(start), start + KERNEL_FIRST));
        assert!(missing.lasts("br0", start + KERNEL_FIRST));
        let later = start + KERNEL_FIRST * 2;
        assert!(!missing.is_due(Some(start + KERNEL_FIRST), later), "it is reported");
        missing.is_over("br0");
        assert!(!missing.lasts("br0", later));
    }
}
