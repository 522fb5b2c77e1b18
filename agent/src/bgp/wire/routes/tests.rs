//! UPDATE messages as values; [`super::super::decode`] has those as octets.

use rustbgpd_wire::{AsPath, AsPathSegment, Ipv6Prefix, MpUnreachNlri, Origin, ParsedUpdate};

use super::*;
use crate::bgp::wire::encode::tests::{neighbour, parameters, reached};

const OWN_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn entry(text: &str) -> NlriEntry {
    let it: Prefix = text.parse().unwrap();
    NlriEntry { path_id: 0, prefix: rustbgpd_wire::Prefix::V6(Ipv6Prefix::new(it.addr(), it.len())) }
}

fn unreach(prefixes: &[&str]) -> PathAttribute {
    PathAttribute::MpUnreachNlri(Box::new(MpUnreachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        withdrawn: prefixes.iter().map(|it| entry(it)).collect(),
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }))
}

fn as_path(ases: &[u32]) -> PathAttribute {
    PathAttribute::AsPath(AsPath { segments: vec![AsPathSegment::AsSequence(ases.to_vec())] })
}

fn update_of(remote_as: u32, treatment: Treatment, attributes: Vec<PathAttribute>) -> RouteUpdate {
    let (withdrawn, announced) = (Vec::new(), Vec::new());
    let parsed = ParsedUpdate { withdrawn, attributes, announced, bgpls_nlri_discarded: 0 };
    let update = Update { parsed, treatment, faults: Vec::new() };
    let neighbour = neighbour(remote_as);
    route_update(&update, &parameters(&neighbour), OWN_ID, neighbour.address, None)
}

fn announced(remote_as: u32, more: Vec<PathAttribute>) -> RouteUpdate {
    let reach = reached("2001:db8::fe:1", Some("fe80::1"), vec![entry("2001:db8:7::/48")]);
    let attributes = [vec![PathAttribute::Origin(Origin::Igp)], more, vec![reach]].concat();
    update_of(remote_as, Treatment::Taken, attributes)
}

#[test]
fn a_path_has_its_attributes() {
    let more = vec![as_path(&[65000, 64999]), PathAttribute::Med(7), PathAttribute::LocalPref(300)];
    let (prefixes, path) = announced(65000, more.clone()).announced.unwrap();
    assert_eq!(prefixes, ["2001:db8:7::/48".parse().unwrap()]);
    assert_eq!((path.as_path_len, path.neighbour_as, path.med, path.origin), (2, 65000, 7, 0));
    assert_eq!((path.external, path.local_pref), (true, 100), "an external neighbour has no say in it");
    assert_eq!(path.hop.global, Some("2001:db8::fe:1".parse().unwrap()));
    assert_eq!(path.hop.link_local, Some("fe80::1".parse().unwrap()));
    let (_, path) = announced(65001, more).announced.unwrap();
    assert_eq!((path.external, path.local_pref), (false, 300));
}

#[test]
fn a_path_that_leads_back_counts_as_withdrawn() {
    let gone = RouteUpdate { withdrawn: vec!["2001:db8:7::/48".parse().unwrap()], ..RouteUpdate::default() };
    assert_eq!(announced(65000, vec![as_path(&[65000, 65001, 64999])]), gone);
    assert_eq!(announced(65001, vec![as_path(&[]), PathAttribute::OriginatorId(OWN_ID)]), gone);
    let reach = reached("::", None, vec![entry("2001:db8:7::/48")]);
    assert_eq!(update_of(65000, Treatment::Taken, vec![as_path(&[65000]), reach]), gone, "no next hop");
}

#[test]
fn an_update_that_is_treated_as_withdrawal_withdraws() {
    let reach = reached("2001:db8::fe:1", None, vec![entry("2001:db8:7::/48")]);
    let wrong = update_of(65000, Treatment::AsWithdrawal, vec![unreach(&["2001:db8:8::/48"]), reach]);
    assert_eq!(wrong.withdrawn, ["2001:db8:8::/48", "2001:db8:7::/48"].map(|it| it.parse().unwrap()));
    assert_eq!((wrong.announced, wrong.end_of_rib), (None, false));
}

#[test]
fn a_link_local_address_may_stand_where_the_global_one_should() {
    let hop = |next_hop, link_local| {
        let reach = reached(next_hop, link_local, vec![entry("::/0")]);
        let read = update_of(65000, Treatment::Taken, vec![as_path(&[65000]), reach]);
        let hop = read.announced.unwrap().1.hop;
        (hop.global, hop.link_local)
    };
    let fe80 = Some("fe80::1".parse().unwrap());
    assert_eq!(hop("fe80::1", None), (None, fe80));
    assert_eq!(hop("fe80::1", Some("fe80::1")), (None, fe80));
    assert_eq!(hop("::", Some("fe80::1")), (None, fe80));
}

#[test]
fn a_path_that_is_about_to_go_is_worth_nothing() {
    let more = vec![as_path(&[65000]), PathAttribute::Communities(vec![GRACEFUL_SHUTDOWN])];
    assert_eq!(announced(65000, more).announced.unwrap().1.local_pref, 0);
}

#[test]
fn the_end_is_a_message_that_withdraws_nothing_and_says_nothing() {
    let end = |attributes| update_of(65000, Treatment::Taken, attributes).end_of_rib;
    assert!(end(vec![unreach(&[])]));
    assert!(!end(vec![unreach(&["2001:db8:7::/48"])]));
    assert!(!end(vec![]), "that of IPv4");
}
