//! Which interfaces lead to the other hosts, where no setting names them. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr};

use super::{LOOPBACK, LinkRoutes, NoUplink};
use crate::kernel::Link;

/// So many peers vote.
const VOTERS: usize = 100;

/// What a guess is made from.
#[derive(Debug, Clone, Copy)]
pub struct Clues<'a> {
    /// All links.
    pub links: &'a [Link],
    /// The kernel's routes.
    pub routes: &'a LinkRoutes,
    /// The addresses of controllers.
    pub controllers: &'a [Ipv6Addr],
    /// The next hops of each peer.
    pub peers: &'a [&'a [Ipv6Addr]],
    /// The containers' bridge.
    pub bridge: &'a str,
}

/// The interfaces towards the other hosts: those on which more than half of the peers are neighbours, so that a single peer
/// decides nothing for many; else those that lead to controllers; else those of the default routes. A default route alone says
/// little: each virtual machine may have one of its own, on a NAT link that leads to no other.
///
/// # Errors
/// If there is none.
pub fn guessed_uplinks(clues: &Clues<'_>) -> Result<Vec<String>, NoUplink> {
    let candidates: Vec<&Link> = clues.links.iter().filter(|link| may_be_uplink(link, clues)).collect();
    let guesses = [of_peers(clues), of_controllers(clues), clues.routes.default_links()];
    let names = |indices: Vec<u32>| -> Vec<String> {
        let chosen = candidates.iter().filter(|link| indices.contains(&link.index));
        chosen.map(|link| link.name.clone()).collect()
    };
    let found = guesses.into_iter().map(names).find(|names| !names.is_empty());
    found.ok_or_else(|| NoUplink::among(clues.links))
}

fn may_be_uplink(link: &Link, clues: &Clues<'_>) -> bool {
    let bridge = clues.links.iter().find(|link| link.name == clues.bridge).map(|bridge| bridge.index);
    let inside = bridge.is_some_and(|bridge| link.index == bridge || link.controller == Some(bridge));
    link.name != LOOPBACK && !inside
}

fn of_peers(clues: &Clues<'_>) -> Vec<u32> {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    let voters: Vec<_> = clues.peers.iter().filter(|hops| !hops.is_empty()).take(VOTERS).collect();
    for hops in &voters {
        let mut links: Vec<u32> = hops.iter().flat_map(|hop| clues.routes.neighbour_links(*hop)).collect();
        links.sort_unstable();
        links.dedup();
        links.into_iter().for_each(|link| *votes.entry(link).or_default() += 1);
    }
    votes.into_iter().filter(|(_, votes)| votes * 2 > voters.len()).map(|(link, _)| link).collect()
}

fn of_controllers(clues: &Clues<'_>) -> Vec<u32> {
    let remote = clues.controllers.iter().filter(|addr| !addr.is_loopback() && !addr.is_unspecified());
    remote.flat_map(|addr| clues.routes.links_to(*addr)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{MAIN_TABLE, Rule, RuleAction},
        uplinks::{
            on_link::tests::{link_routes_towards, route},
            tests::link,
        },
    };

    const NAT: &[&str] = &["::/0 via fe80::2 dev 3", "fd17::/64 dev 3", "2001:db8::/64 dev 2"];

    fn guessed(routes: &[&str], controllers: &[&str], peers: &[&[&str]]) -> String {
        let addresses =
            |texts: &[&str]| -> Vec<Ipv6Addr> { texts.iter().map(|it| it.parse().unwrap()).collect() };
        let (controllers, peers) =
            (addresses(controllers), peers.iter().map(|hops| addresses(hops)).collect::<Vec<_>>());
        let peers: Vec<&[Ipv6Addr]> = peers.iter().map(Vec::as_slice).collect();
        let main = Rule { action: RuleAction::Table(MAIN_TABLE), ..Rule::default() };
        let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
        let mut links =
            vec![link(1, "lo"), link(2, "eth0"), link(3, "eth9"), link(4, "docker0"), link(5, "veth1")];
        links[4].controller = Some(4);
        links[2].up = !routes.is_empty();
        let clues = Clues {
            links: &links,
            routes: &link_routes_towards(&[main], &routes, &controllers),
            controllers: &controllers,
            peers: &peers,
            bridge: "docker0",
        };
        guessed_uplinks(&clues).map_or_else(|error| error.to_string(), |names| names.join(","))
    }

    #[test]
    fn peers_then_controllers_then_default_routes() {
        for (controllers, peers, expected) in [
            (&[][..], &[][..], "eth9"),
            (&["::1"], &[], "eth9"),
            (&["2001:db8::c"], &[], "eth0"),
            (&["2001:db8:c::1"], &[], "eth9"),
            (&["2001:db8::c", "2001:db8:c::1"], &[], "eth0,eth9"),
            (&["fd17::c"], &[&["2001:db8::2"][..]], "eth0"),
            (&["2001:db8::c"], &[&["fd17::16"]], "eth9"),
            (&["2001:db8::c"], &[&["fd17::16"], &["2001:db8::2"]], "eth0"),
            (&["2001:db8::c"], &[&["2001:db8:c::2"]], "eth0"),
            (&["2001:db8::c"], &[&["fd17::16", "2001:db8::3"], &["2001:db8::2", "fd17::15"]], "eth0,eth9"),
            (&["2001:db8::c"], &[&[]], "eth0"),
        ] {
            assert_eq!(guessed(NAT, controllers, peers), expected, "{controllers:?} {peers:?}");
        }
    }

    #[test]
    fn a_static_route_to_the_controllers_leads_there_too() {
        let routes = ["::/0 via fe80::2 dev 3", "2001:db8:c::/48 via fe80::9 dev 2"];
        assert_eq!(guessed(&routes, &["2001:db8:c::1"], &[]), "eth0");
    }

    #[test]
    fn the_containers_bridge_and_its_ports_are_no_uplinks() {
        let routes = ["2001:db8:8::/64 dev 4", "2001:db8:9::/64 dev 5", "::/0 via fe80::2 dev 3"];
        assert_eq!(guessed(&routes, &["2001:db8:8::c"], &[&["2001:db8:9::1"]]), "eth9");
        let none = guessed(&["2001:db8:8::/64 dev 4"], &["2001:db8:8::c"], &[]);
        assert!(none.contains("no uplink is configured") && none.contains("eth0, eth9, docker0"), "{none}");
        let none = guessed(&[], &["2001:db8:8::c"], &[]);
        assert!(
            none.contains("interfaces: lo, eth0, eth9 (down), docker0, veth1; bring up the one"),
            "{none}"
        );
    }
}
