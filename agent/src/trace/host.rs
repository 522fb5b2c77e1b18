//! Checks whether a host forwards packets to its containers. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Prefix, Problem};

use super::{Check, State, firewall};
use crate::kernel::Link;

/// Facts about a host.
pub(super) struct Facts<'a> {
    pub(super) node: &'a NodeName,
    /// The bridge's name, and the bridge if it exists.
    pub(super) bridge: &'a str,
    pub(super) link: Option<&'a Link>,
    /// Without the bridge, containers have no addresses.
    pub(super) needs_bridge: bool,
    /// Its address in the container prefix.
    pub(super) address: Option<(Ipv6Addr, u8)>,
    pub(super) container_prefix: Option<Prefix>,
    /// Why the agent does not use the prefix, or has none.
    pub(super) unused: Option<Problem>,
    /// `net.ipv6.conf.all.forwarding`.
    pub(super) forwarding: Option<String>,
    pub(super) paused: bool,
    pub(super) pool: Option<Prefix>,
    pub(super) ruleset: Option<String>,
    pub(super) legacy_forward: Option<String>,
}

/// The checks of the host.
pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let (ruleset, legacy) = (facts.ruleset.as_deref(), facts.legacy_forward.as_deref());
    let firewall = firewall::check(facts.node.as_str(), ruleset, legacy, facts.pool);
    vec![bridge(facts), forwarding(facts), firewall]
}

fn bridge(facts: &Facts<'_>) -> Check {
    let Facts { node, bridge: name, .. } = facts;
    if facts.link.is_none() && !facts.needs_bridge {
        // The kernel holds the address of a bridge without carrier back.
        let saw =
            "no container runs on a network of Docker's IPAM driver: no bridge can send or answer probes";
        return Check::new("bridge", State::Unknown, saw);
    }
    let Some(link) = facts.link else {
        let fix = format!(
            "on {node}: start the container engine, or let the agent create the bridge ([bridge] create = true in agent.toml)"
        );
        return Check::broken("bridge", format!("bridge {name} does not exist"), fix);
    };
    if !link.up {
        return Check::broken(
            "bridge",
            format!("{name} is down"),
            format!("on {node}: ip link set {name} up"),
        );
    }
    let Some(prefix) = facts.container_prefix else {
        let saw = facts.unused.as_ref().map_or("no host prefix is claimed yet", |it| &it.saw);
        return Check::broken("bridge", saw, unused_fix(facts));
    };
    match facts.address {
        Some((addr, len)) => Check::new("bridge", State::Good, format!("{name} has {addr}/{len}")),
        None if facts.paused => {
            let saw =
                format!("{name} has no address of {prefix}, and the agent adds none while it is paused");
            Check::broken("bridge", saw, "sextant resume")
        }
        // The agent adds the address once that is over; an address added by hand would be in its way.
        None if let Some(Problem { saw, .. }) = &facts.unused => {
            Check::broken("bridge", format!("{name} has no address of {prefix}: {saw}"), unused_fix(facts))
        }
        None => {
            let (addr, len) = (prefix.first_host(), prefix.len());
            let fix = format!("on {node}: ip -6 addr add {addr}/{len} dev {name} nodad");
            Check::broken("bridge", format!("{name} has no address of {prefix}"), fix)
        }
    }
}

fn unused_fix(facts: &Facts<'_>) -> String {
    let node = facts.node;
    match facts.unused.as_ref().filter(|it| !it.fix.is_empty()) {
        Some(problem) => format!("on {node}: {}", problem.fix),
        None => format!("sextant node show {node}, and sextant-agent's log there"),
    }
}

fn forwarding(facts: &Facts<'_>) -> Check {
    match facts.forwarding.as_deref() {
        Some("0") => {
            let fix = format!("on {}: sysctl -w net.ipv6.conf.all.forwarding=1", facts.node);
            Check::broken("forwarding", "net.ipv6.conf.all.forwarding is 0: no packet is forwarded", fix)
        }
        Some(_) => Check::new("forwarding", State::Good, "on"),
        None => Check::broken("forwarding", "the kernel has no IPv6", "boot without ipv6.disable=1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(up: bool) -> Link {
        let (name, mac) = ("docker0".to_owned(), Vec::new());
        Link { index: 3, name, up, carrier: false, bridge: true, mac, ..Link::default() }
    }

    /// The first check that is not good, of a healthy host with a change.
    fn first(change: impl FnOnce(&mut Facts<'_>)) -> (State, String) {
        let (node, link): (NodeName, _) = ("h2".parse().unwrap(), link(true));
        let mut facts = Facts {
            node: &node,
            bridge: "docker0",
            link: Some(&link),
            needs_bridge: true,
            address: Some(("2001:db8:2::1".parse().unwrap(), 80)),
            container_prefix: "2001:db8:2::/80".parse().ok(),
            unused: None,
            forwarding: Some("1".into()),
            paused: false,
            pool: None,
            ruleset: Some(String::new()),
            legacy_forward: None,
        };
        change(&mut facts);
        let checks = checks(&facts);
        let found = checks.iter().find(|check| check.state != State::Good).unwrap_or(&checks[0]);
        let fix = if found.fix.is_empty() { &found.saw } else { &found.fix };
        (found.state, fix.clone())
    }

    #[test]
    fn each_problem_has_a_fix() {
        assert_eq!(first(|_| {}), (State::Good, "docker0 has 2001:db8:2::1/80".into()));
        assert!(first(|facts| facts.link = None).1.starts_with("on h2: start the container engine"));
        let ipam = first(|facts| (facts.link, facts.needs_bridge) = (None, false));
        assert!(ipam.0 == State::Unknown && ipam.1.contains("no container runs"), "{ipam:?}");
        let down = link(false);
        assert_eq!(first(|facts| facts.container_prefix = None).0, State::Broken);
        let bare = first(|facts| facts.address = None);
        assert_eq!(bare, (State::Broken, "on h2: ip -6 addr add 2001:db8:2::1/80 dev docker0 nodad".into()));
        let paused = first(|facts| (facts.address, facts.paused) = (None, true));
        assert_eq!(paused, (State::Broken, "sextant resume".into()));
        let full = Problem {
            what: "state-directory".into(),
            saw: "full".into(),
            fix: "free space".into(),
            since_unix_ms: 1,
        };
        let unused = first(|facts| (facts.address, facts.unused) = (None, Some(full.clone())));
        assert_eq!(unused, (State::Broken, "on h2: free space".into()));
        assert_eq!(first(|facts| facts.unused = Some(full.clone())).0, State::Good, "it has the address");
        let refused = first(|facts| (facts.container_prefix, facts.unused) = (None, Some(full.clone())));
        assert_eq!(refused, (State::Broken, "on h2: free space".into()));
        let off = first(|facts| facts.forwarding = Some("0".into()));
        assert_eq!(off, (State::Broken, "on h2: sysctl -w net.ipv6.conf.all.forwarding=1".into()));
        let node = "h2".parse().unwrap();
        let facts = Facts {
            node: &node,
            bridge: "docker0",
            link: Some(&down),
            needs_bridge: true,
            address: None,
            container_prefix: None,
            unused: None,
            forwarding: None,
            paused: false,
            pool: None,
            ruleset: None,
            legacy_forward: None,
        };
        let found: Vec<_> = checks(&facts).iter().map(|check| (check.state, check.fix.clone())).collect();
        assert_eq!(found[0], (State::Broken, "on h2: ip link set docker0 up".into()));
        assert_eq!((found[1].0, found[2].0), (State::Broken, State::Unknown));
    }
}
