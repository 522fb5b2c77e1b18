//! Peers with a next hop of this host. Pure.

use std::net::Ipv6Addr;

use sextant_proto::Peer;

use super::Known;
use crate::problems::Finding;

/// So many of them are listed.
const LISTED: usize = 3;

/// The problem that peers announce an address of this host as their next hop: other hosts cannot tell them apart.
pub fn shared_next_hops(known: &Known<'_>) -> Option<Finding> {
    let own = |hop: &&Ipv6Addr| known.uplinks.iter().any(|local| local.on_link.is_own(**hop));
    let shared = |peer: &Peer| {
        let hops = (peer.name != *known.node).then_some(&peer.next_hops)?;
        let hop = hops.iter().filter(|hop| !hop.is_unicast_link_local()).find(own)?;
        Some((peer.name.clone(), *hop))
    };
    let mut shared: Vec<_> = known.view.peers().filter_map(shared).collect();
    shared.sort();
    let (_, hop) = *shared.first().as_ref()?;
    let interface =
        known.uplinks.iter().find(|local| local.uplink.addresses.iter().any(|it| it.addr == *hop));
    let place =
        interface.map_or_else(|| "another interface".into(), |it| format!("uplink {}", it.uplink.interface));
    let names: Vec<_> = shared.iter().take(LISTED).map(|(name, hop)| format!("{name} ({hop})")).collect();
    let more = shared.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(Finding::new(
        "next-hop-shared",
        format!(
            "other nodes announce an address of this host, on {place}, as their next hop: {}{more}; packets to them are taken \
             for packets to this host",
            names.join(", ")
        ),
        "if the interface does not lead to the other hosts (a NAT link that each virtual machine has, say), set [uplink] \
         interface in agent.toml (--uplink) to the one that does, here and on each of these nodes, and restart sextant-agent; if \
         it does, give each of them another address",
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::routes::fixture::{known, uplink, view};

    fn peer(name: &str, hops: &[&str]) -> Peer {
        Peer {
            name: name.parse().unwrap(),
            claims: vec![],
            next_hops: hops.iter().map(|hop| hop.parse().unwrap()).collect(),
            session: true,
            drain_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn only_other_nodes_with_an_own_global_address_are_reported() {
        let uplinks = [uplink(2, "2001:db8::1")];
        let found = |peers: Vec<Peer>| {
            shared_next_hops(&Known { uplinks: &uplinks, ..known(&view(vec![], peers)) }).map(|it| it.saw)
        };
        assert_eq!(found(vec![peer("host1", &["2001:db8::1"]), peer("host2", &["2001:db8::2"])]), None);
        let same = |n: u8| peer(&format!("host{n}"), &["2001:db8::9", "2001:db8::1"]);
        let saw = found(vec![peer("host1", &["2001:db8::1"]), same(2)]).unwrap();
        assert!(saw.contains("on uplink eth2") && saw.contains("host2 (2001:db8::1);"), "{saw}");
        let many = found((2..9).map(same).collect()).unwrap();
        assert!(many.contains("host4 (2001:db8::1) and 4 more"), "{many}");
    }
}
