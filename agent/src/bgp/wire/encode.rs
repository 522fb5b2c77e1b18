//! UPDATE messages out of [`News`].

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use bytes::Bytes;
use rustbgpd_wire::{
    Afi, AsPath, AsPathSegment, EncodeError, LargeCommunity, Message, MpReachNlri, MpUnreachNlri, NlriEntry,
    Origin, PathAttribute, Safi, UpdateMessage, encode_message, update::Ipv4UnicastMode,
};
use sextant_proto::Prefix;

use super::decode::Between;
use crate::{
    bgp::paths::{News, Path},
    settings::NeighbourSettings,
};

/// GRACEFUL_SHUTDOWN (RFC 8326).
pub(in crate::bgp) const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
/// How many prefixes one message holds: at 17 octets each they fit into 4,096 with all attributes.
const PER_MESSAGE: usize = 150;

/// The parameters of one session.
#[derive(Debug, Clone, Copy)]
pub(in crate::bgp) struct SessionParameters<'a> {
    pub(in crate::bgp) local_as: u32,
    pub(in crate::bgp) neighbour: &'a NeighbourSettings,
    /// Our address in the session; over link-local addresses a global one of the same interface, if there is one.
    pub(in crate::bgp) own_address: Ipv6Addr,
    /// Our address in a session over link-local addresses, where `own_address` is another one (RFC 2545 §3).
    pub(in crate::bgp) own_link_local: Option<Ipv6Addr>,
    /// The neighbour understands AS numbers of four octets.
    pub(in crate::bgp) four_octet_as: bool,
}

impl SessionParameters<'_> {
    /// Whether both ends are of one AS, and how AS numbers are written.
    pub(in crate::bgp) fn between(&self) -> Between {
        let internal = self.local_as == self.neighbour.remote_as;
        Between { internal, four_octet_as: self.four_octet_as }
    }
}

/// The UPDATE messages that tell `news`, withdrawals first.
pub(in crate::bgp) fn updates(
    news: &News,
    parameters: &SessionParameters<'_>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut messages = Vec::new();
    for some in news.withdrawn.chunks(PER_MESSAGE) {
        messages.push(update(&[PathAttribute::MpUnreachNlri(Box::new(unreach(some)))], parameters)?);
    }
    let mut by_path: BTreeMap<Path, Vec<Prefix>> = BTreeMap::new();
    for (prefix, path) in &news.announced {
        by_path.entry(path.clone()).or_default().push(*prefix);
    }
    for (path, prefixes) in by_path {
        for some in prefixes.chunks(PER_MESSAGE) {
            messages.push(update(&attributes(&path, some, parameters), parameters)?);
        }
    }
    Ok(messages)
}

/// The end of what there is to tell at first (RFC 4724 §2).
pub(in crate::bgp) fn end_of_rib(parameters: &SessionParameters<'_>) -> Result<Bytes, EncodeError> {
    update(&[PathAttribute::MpUnreachNlri(Box::new(unreach(&[])))], parameters)
}

/// A message in octets.
pub(in crate::bgp) fn message(message: &Message) -> Result<Bytes, EncodeError> {
    Ok(encode_message(message)?.freeze())
}

fn update(attributes: &[PathAttribute], parameters: &SessionParameters<'_>) -> Result<Bytes, EncodeError> {
    let mode = Ipv4UnicastMode::MpReach;
    let message = UpdateMessage::try_build(&[], &[], attributes, parameters.four_octet_as, false, mode)?;
    self::message(&Message::Update(message))
}

fn attributes(path: &Path, prefixes: &[Prefix], parameters: &SessionParameters<'_>) -> Vec<PathAttribute> {
    let neighbour = parameters.neighbour;
    let internal = parameters.local_as == neighbour.remote_as;
    let segments =
        if internal { Vec::new() } else { vec![AsPathSegment::AsSequence(vec![parameters.local_as])] };
    let mut attributes = vec![PathAttribute::Origin(Origin::Igp), PathAttribute::AsPath(AsPath { segments })];
    attributes.extend(neighbour.med.map(PathAttribute::Med));
    if internal {
        attributes.push(PathAttribute::LocalPref(if path.leaving { 0 } else { neighbour.local_pref }));
    }
    attributes.extend(communities(path, neighbour));
    let next_hop = path.next_hop.unwrap_or(parameters.own_address);
    let link_local = parameters.own_link_local.filter(|_| path.next_hop.is_none());
    let announced = prefixes.iter().map(entry).collect();
    attributes.push(PathAttribute::MpReachNlri(Box::new(reach(next_hop, link_local, announced))));
    attributes
}

/// Those of the pool, or else those of the neighbour.
fn communities(path: &Path, neighbour: &NeighbourSettings) -> Vec<PathAttribute> {
    let pool = path.pool.as_deref();
    let of_pool = pool.and_then(|pool| pool.communities.clone());
    let mut communities = of_pool.unwrap_or_else(|| neighbour.communities.clone());
    communities.extend(path.leaving.then_some(GRACEFUL_SHUTDOWN));
    let of_pool = pool.and_then(|pool| pool.large_communities.as_ref());
    let large = of_pool.unwrap_or(&neighbour.large_communities);
    let large: Vec<_> = large.iter().map(|[a, b, c]| LargeCommunity::new(*a, *b, *c)).collect();
    let communities = (!communities.is_empty()).then_some(PathAttribute::Communities(communities));
    let large = (!large.is_empty()).then_some(PathAttribute::LargeCommunities(large));
    communities.into_iter().chain(large).collect()
}

fn reach(
    next_hop: Ipv6Addr,
    link_local_next_hop: Option<Ipv6Addr>,
    announced: Vec<NlriEntry>,
) -> MpReachNlri {
    MpReachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        next_hop: IpAddr::V6(next_hop),
        link_local_next_hop,
        announced,
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    }
}

fn unreach(prefixes: &[Prefix]) -> MpUnreachNlri {
    MpUnreachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        withdrawn: prefixes.iter().map(entry).collect(),
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }
}

fn entry(prefix: &Prefix) -> NlriEntry {
    let prefix = rustbgpd_wire::Ipv6Prefix::new(prefix.addr(), prefix.len());
    NlriEntry { path_id: 0, prefix: rustbgpd_wire::Prefix::V6(prefix) }
}

#[cfg(test)]
pub(in crate::bgp) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use bytes::BytesMut;
    use rustbgpd_wire::MAX_MESSAGE_LEN;

    use super::{
        super::decode::{next_message, read_update},
        *,
    };
    use crate::{
        bgp::paths::Paths,
        settings::{Accept, Import, PoolSettings},
    };

    pub(in crate::bgp) fn neighbour(remote_as: u32) -> NeighbourSettings {
        NeighbourSettings {
            address: "2001:db8::fe:1".parse().unwrap(),
            interface: None,
            remote_as,
            passive: false,
            hold_time: 90,
            password: None,
            ttl_security: false,
            restart_time: 120,
            bfd: None,
            accept: nothing(),
            source: None,
            communities: vec![65001 << 16 | 7],
            large_communities: vec![[1, 2, 3]],
            med: Some(5),
            local_pref: 200,
        }
    }

    fn nothing() -> Accept {
        Accept { import: Import::None, filter: Vec::new(), max: 0 }
    }

    pub(in crate::bgp) fn reached(
        next_hop: &str,
        link_local: Option<&str>,
        announced: Vec<NlriEntry>,
    ) -> PathAttribute {
        let link_local = link_local.map(|it| it.parse().unwrap());
        PathAttribute::MpReachNlri(Box::new(reach(next_hop.parse().unwrap(), link_local, announced)))
    }

    /// Of an agent in AS 65001.
    pub(in crate::bgp) fn parameters(neighbour: &NeighbourSettings) -> SessionParameters<'_> {
        let own_address = "2001:db8::1".parse().unwrap();
        SessionParameters {
            local_as: 65001,
            neighbour,
            own_address,
            own_link_local: None,
            four_octet_as: true,
        }
    }

    fn many(count: u128, leaving: bool) -> News {
        let prefix =
            |n: u128| Prefix::new(Ipv6Addr::from_bits((0x2001_0db8_8000 << 80) + (n << 64)), 64).unwrap();
        let path = Path { next_hop: None, leaving, pool: None };
        News {
            withdrawn: (0..count).map(prefix).collect(),
            announced: (0..count).map(|n| (prefix(n), path.clone())).collect(),
        }
    }

    /// What a neighbour learns from these messages, by the codec's own decoder.
    fn learn(messages: Vec<Bytes>) -> (Paths, Vec<Vec<PathAttribute>>) {
        let (mut paths, mut all) = (Paths::new(), Vec::new());
        for message in messages {
            assert!(message.len() <= usize::from(MAX_MESSAGE_LEN), "{}", message.len());
            let mut received = BytesMut::from(&message[..]);
            let Some(Message::Update(update)) = next_message(&mut received).unwrap() else { panic!() };
            assert!(received.is_empty());
            let attributes = update.parse(true, false, &[]).unwrap().attributes;
            for attribute in &attributes {
                match attribute {
                    PathAttribute::MpReachNlri(reach) => paths.extend(reach.announced.iter().map(|entry| {
                        let IpAddr::V6(hop) = reach.next_hop else { panic!() };
                        (prefix_of(entry), Path { next_hop: Some(hop), leaving: false, pool: None })
                    })),
                    PathAttribute::MpUnreachNlri(unreach) => {
                        let gone: Vec<_> = unreach.withdrawn.iter().map(prefix_of).collect();
                        paths.retain(|prefix, _| !gone.contains(prefix));
                    }
                    _ => {}
                }
            }
            all.push(attributes);
        }
        (paths, all)
    }

    fn prefix_of(entry: &NlriEntry) -> Prefix {
        let rustbgpd_wire::Prefix::V6(prefix) = entry.prefix else { panic!() };
        Prefix::new(prefix.addr, prefix.len).unwrap()
    }

    #[test]
    fn many_prefixes_fit_into_messages() {
        let neighbour = neighbour(65000);
        let (paths, _) = learn(updates(&many(1000, false), &parameters(&neighbour)).unwrap());
        assert_eq!(paths.len(), 1000, "withdrawals come first");
        assert!(paths.values().all(|path| path.next_hop == Some("2001:db8::1".parse().unwrap())));
    }

    #[test]
    fn over_link_local_addresses_both_next_hops_are_sent() {
        let neighbour = neighbour(65000);
        let (own, hop) = ("2001:db8::1".parse().unwrap(), Some("fe80::1".parse().unwrap()));
        let spoken = SessionParameters { own_link_local: hop, ..parameters(&neighbour) };
        let (_, attributes) = learn(updates(&many(1, false), &spoken).unwrap());
        let reached = attributes[1].iter().find_map(|it| match it {
            PathAttribute::MpReachNlri(it) => Some((it.next_hop, it.link_local_next_hop)),
            _ => None,
        });
        assert_eq!(reached, Some((IpAddr::V6(own), hop)));
    }

    #[test]
    fn a_path_that_leaves_says_so() {
        for (remote_as, local_pref) in [(65000, None), (65001, Some(0))] {
            let neighbour = neighbour(remote_as);
            let news = News { withdrawn: vec![], ..many(1, true) };
            let (_, attributes) = learn(updates(&news, &parameters(&neighbour)).unwrap());
            let communities = PathAttribute::Communities(vec![65001 << 16 | 7, GRACEFUL_SHUTDOWN]);
            assert!(attributes[0].contains(&communities), "{attributes:?}");
            let found = attributes[0].iter().find_map(|it| match it {
                PathAttribute::LocalPref(preference) => Some(*preference),
                _ => None,
            });
            assert_eq!(found, local_pref);
        }
    }

    /// A path of a pool whose communities, standard and large ones, are these.
    fn of_pool(
        communities: Option<Vec<u32>>,
        large_communities: Option<Vec<[u32; 3]>>,
        leaving: bool,
    ) -> Path {
        let pool = PoolSettings { announce: true, communities, large_communities };
        Path { next_hop: None, leaving, pool: Some(Arc::new(pool)) }
    }

    #[test]
    fn communities_of_the_pool_replace_those_of_the_neighbour() {
        let neighbour = neighbour(65000);
        let (standard, large) = (
            |it| PathAttribute::Communities(it),
            |[a, b, c]: [u32; 3]| PathAttribute::LargeCommunities(vec![LargeCommunity::new(a, b, c)]),
        );
        let theirs = neighbour.communities.clone();
        for (path, expected) in [
            (of_pool(None, None, false), vec![standard(theirs), large([1, 2, 3])]),
            (
                of_pool(Some(vec![8]), None, true),
                vec![standard(vec![8, GRACEFUL_SHUTDOWN]), large([1, 2, 3])],
            ),
            (of_pool(Some(vec![]), Some(vec![[4, 5, 6]]), false), vec![large([4, 5, 6])]),
            (of_pool(Some(vec![]), Some(vec![]), true), vec![standard(vec![GRACEFUL_SHUTDOWN])]),
        ] {
            assert_eq!(communities(&path, &neighbour), expected);
        }
    }

    #[test]
    fn each_pool_has_messages_of_its_own() {
        let neighbour = neighbour(65000);
        let mut news = News { withdrawn: vec![], ..many(4, false) };
        for (_, path) in news.announced.iter_mut().skip(2) {
            *path = of_pool(Some(vec![8]), None, false);
        }
        let (paths, attributes) = learn(updates(&news, &parameters(&neighbour)).unwrap());
        assert_eq!((paths.len(), attributes.len()), (4, 2));
    }

    proptest! {
        #[test]
        fn octets_of_any_kind_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let neighbour = neighbour(65000);
            let framed = |kind: u8| {
                let len = u16::try_from(19 + octets.len()).unwrap();
                [&[0xff; 16][..], &len.to_be_bytes(), &[kind], &octets].concat()
            };
            for octets in [octets.clone()].into_iter().chain((0..7).map(framed)) {
                let mut received = BytesMut::from(&octets[..]);
                if let Ok(Some(Message::Update(update))) = next_message(&mut received) {
                    let _any = read_update(&update, parameters(&neighbour).between());
                }
            }
        }

        #[test]
        fn a_message_with_one_octet_wrong_does_no_harm(at in any::<proptest::sample::Index>(), with in any::<u8>()) {
            let neighbour = neighbour(65000);
            for message in updates(&many(3, true), &parameters(&neighbour)).unwrap() {
                let mut received = BytesMut::from(&message[..]);
                let at = at.index(received.len());
                received[at] = with;
                if let Ok(Some(Message::Update(update))) = next_message(&mut received) {
                    let _any = read_update(&update, parameters(&neighbour).between());
                }
            }
        }
    }
}
