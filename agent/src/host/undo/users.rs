//! Who else uses an object that the agent has changed. Pure.

use super::Found;
use crate::{
    host::containers::ContainerLinks,
    kernel::{Address, Link},
    state::{BridgeAddress, Ledger, MadeBridge},
};

/// The bridges of others with containers that this host forwards for: they have ports, and a global address.
pub(super) fn users(ledger: &Ledger, found: &Found) -> Vec<String> {
    let inside = ContainerLinks::among(&found.links, None, &[]);
    let forwards = |bridge: &&Link| {
        let global = |it: &Address| it.link == bridge.index && it.global;
        inside.is_bridge(bridge.index)
            && !ports(bridge, &found.links).is_empty()
            && found.addresses.iter().any(global)
            && !is_only_ours(bridge, ledger, found)
    };
    found.links.iter().filter(forwards).map(|bridge| bridge.name.clone()).collect()
}

/// Whether the agent created the bridge, and nothing else has come to use it as its own.
pub(super) fn is_only_ours(bridge: &Link, ledger: &Ledger, found: &Found) -> bool {
    let created =
        |made: MadeBridge| made.name == bridge.name && made.mac.is_none_or(|mac| mac == bridge.mac_text());
    ledger.made_bridges().any(created) && others_addresses(bridge, ledger, found).is_empty()
}

/// The addresses of a link that the agent did not add.
pub(super) fn others_addresses(link: &Link, ledger: &Ledger, found: &Found) -> Vec<String> {
    let recorded = |it: &Address| {
        let is_it =
            |ours: &BridgeAddress| (&ours.interface, ours.addr, ours.len) == (&link.name, it.addr, it.len);
        ledger.addresses.iter().any(is_it)
    };
    let global = found.addresses.iter().filter(|it| it.link == link.index && it.global && !recorded(it));
    let ipv4 = found.ipv4.contains(&link.index).then(|| "an IPv4 address".to_owned());
    global.map(|it| format!("{}/{}", it.addr, it.len)).chain(ipv4).collect()
}

/// The names of the ports of a link.
pub(super) fn ports(of: &Link, links: &[Link]) -> Vec<String> {
    links.iter().filter(|link| link.controller == Some(of.index)).map(|link| link.name.clone()).collect()
}
