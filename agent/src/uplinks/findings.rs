//! The problems of the uplinks. Pure.

use sextant_proto::link_name_word;

use super::{interfaces, is_link_local, is_usable, lent};
use crate::{
    kernel::{Address, Link},
    problems::Finding,
};

/// The problems of the uplinks `names`: each one that does not exist, or has no address that peers may use.
pub(crate) fn findings(names: &[String], links: &[Link], addresses: &[Address]) -> Vec<Finding> {
    let missing = |name: &String| {
        Finding::new(
            "uplink-missing",
            format!("uplink \"{name}\" does not exist; interfaces: {}", interfaces(links).join(", ")),
            "restore the interface's name, or set [uplink] interface in agent.toml (--uplink) and restart sextant-agent",
        )
    };
    let of = |name: &String| match links.iter().find(|link| link.name == *name) {
        None => Some(missing(name)),
        Some(link) => without_address(link, links, addresses),
    };
    names.iter().filter_map(of).collect()
}

fn without_address(link: &Link, links: &[Link], addresses: &[Address]) -> Option<Finding> {
    let (name, word) = (&link.name, link_name_word(&link.name));
    let own: Vec<_> = addresses.iter().filter(|address| address.link == link.index).collect();
    let unnumbered = || own.iter().any(|it| is_link_local(it)) && lent(links, addresses).next().is_some();
    if own.iter().any(|address| is_usable(address)) || unnumbered() {
        return None;
    }
    let duplicate = own.iter().find(|address| address.global && address.dad_failed);
    Some(match duplicate {
        Some(Address { addr, len, .. }) => Finding::new(
            "address-duplicate",
            format!(
                "uplink {name} has no usable IPv6 address: another host on the link uses {addr} (duplicate address detection \
                 failed)"
            ),
            format!(
                "find that host (`ip -6 neigh show dev {word}` on a third host), and change the address of one of the two; then \
                 on this host: ip -6 addr del {addr}/{len} dev {word}, and add its address again"
            ),
        ),
        None => Finding::new(
            "address-missing",
            format!(
                "uplink {name} has no usable IPv6 address (global, not tentative, not temporary), and the loopback interface lends none"
            ),
            format!("add one: ip -6 addr add ADDRESS/LENGTH dev {word}"),
        ),
    })
}
