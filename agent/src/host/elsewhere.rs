//! Other interfaces that have the container prefix. Pure.

use sextant_proto::{Claim, Prefix, link_name_word};

use crate::{
    kernel::{Address, Link},
    problems::Finding,
    state::BridgeAddress,
};

/// Another bridge with the container prefix of one of the claims: containers may be on it. What the agent has `added` for earlier
/// settings does not count: it is about to be removed.
pub(super) fn bridge<'a>(
    claims: &[Claim],
    bridge: &str,
    added: &[BridgeAddress],
    links: &'a [Link],
    addresses: &[Address],
) -> Option<&'a Link> {
    let has_prefix = |link: &Link| {
        let is_added = |it: &Address| {
            added.iter().any(|ours| (&ours.interface, ours.addr, ours.len) == (&link.name, it.addr, it.len))
        };
        let mut here = addresses.iter().filter(|address| address.link == link.index && !is_added(address));
        here.any(|address| claims.iter().any(|claim| is_of(claim, address)))
    };
    links.iter().find(|link| link.bridge && link.name != bridge && has_prefix(link))
}

/// Each of them is reported: packets may go to the wrong one.
pub(super) fn findings(bridge: &str, claim: &Claim, links: &[Link], addresses: &[Address]) -> Vec<Finding> {
    let stands = links.iter().any(|link| link.name == bridge);
    let finding = |address: &Address| {
        let link = links.iter().find(|link| link.index == address.link && link.name != bridge)?;
        Some(if stands { second(bridge, link, address) } else { other_name(bridge, link, address) })
    };
    addresses.iter().filter(|address| is_of(claim, address)).filter_map(finding).collect()
}

fn is_of(claim: &Claim, address: &Address) -> bool {
    Prefix::containing(address.addr, address.len) == Some(claim.container_prefix())
}

fn second(bridge: &str, link: &Link, address: &Address) -> Finding {
    let (name, addr, len) = (&link.name, address.addr, address.len);
    Finding::unready(
        "container-prefix-elsewhere",
        format!(
            "interface {name} also has the container prefix of bridge {bridge}: {addr}/{len}, not added by the agent"
        ),
        format!(
            "if containers are on {name}, set [bridge] interface = \"{name}\" in agent.toml; otherwise give {name} another \
             prefix where it is configured, e.g. in the container engine's settings"
        ),
    )
}

/// The bridge may have another name than in the settings.
fn other_name(bridge: &str, link: &Link, address: &Address) -> Finding {
    let (name, addr, len) = (&link.name, address.addr, address.len);
    Finding::unready(
        "container-prefix-elsewhere",
        format!(
            "bridge {bridge} does not exist, and interface {name} has its container prefix: {addr}/{len}"
        ),
        format!(
            "if {name} is the containers' bridge: `ip link set dev {} name {}`, or set [bridge] interface = \"{name}\" in \
             agent.toml (--bridge) and restart sextant-agent; otherwise give {name} another prefix where it is configured",
            link_name_word(name),
            link_name_word(bridge)
        ),
    )
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;
    use crate::kernel::fake::permanent;

    fn claim() -> Claim {
        let pool = Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 80).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix: "2001:db8:1::/64".parse().unwrap(), epoch, pool }
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), bridge: name.starts_with("br"), ..Link::default() }
    }

    fn address(link: u32, addr: &str) -> Address {
        permanent(link, addr.parse().unwrap(), 80)
    }

    #[test]
    fn another_interface_with_the_container_prefix_is_reported() {
        let links = [link(3, "brc"), link(4, "br1")];
        let found = |addresses: &[Address]| findings("brc", &claim(), &links, addresses);
        let own = address(3, "2001:db8:1::1");
        let other_network = address(4, "2001:db8:1:0:1::1");
        assert_eq!(
            found(&[own.clone(), other_network]),
            [],
            "another container prefix of the same host prefix"
        );
        let found = found(&[own, address(4, "2001:db8:1::9")]);
        assert!(found.len() == 1 && found[0].saw.starts_with("interface br1 also has"), "{found:?}");
    }

    #[test]
    fn a_bridge_with_the_prefix_is_the_missing_one_under_another_name() {
        let (links, addresses) = ([link(4, "brx"), link(5, "veth0")], [address(4, "2001:db8:1::1")]);
        let found = &findings("docker0", &claim(), &links, &addresses)[0];
        assert!(found.saw.starts_with("bridge docker0 does not exist, and interface brx has"), "{found:?}");
        assert!(found.fix.contains("`ip link set dev brx name docker0`"), "{found:?}");
        let ours = BridgeAddress { interface: "brx".into(), addr: addresses[0].addr, len: 80 };
        assert_eq!(bridge(&[claim()], "docker0", &[ours], &links, &addresses), None, "for earlier settings");
        assert_eq!(bridge(&[claim()], "docker0", &[], &links, &addresses).map(|it| it.index), Some(4));
        assert_eq!(
            bridge(&[claim()], "docker0", &[], &links, &[address(5, "2001:db8:1::1")]),
            None,
            "no bridge"
        );
        assert_eq!(bridge(&[claim()], "docker0", &[], &links, &[address(4, "2001:db8:2::1")]), None);
    }
}
