//! What one codec makes, another one reads as the same: `netgauze-bgp-pkt`, and octets recorded from FRR and BIRD.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use netgauze_bgp_pkt::{
    BgpMessage,
    codec::BgpCodec,
    community::{Community, LargeCommunity as TheirLarge},
    nlri::{Ipv6Unicast, Ipv6UnicastAddress},
    notification::{BgpNotificationMessage, CeaseError},
    path_attribute::{
        As2PathSegment, As4PathSegment, AsPath as TheirPath, AsPathSegmentType, Communities,
        LargeCommunities, LocalPreference, MpReach, MpUnreach, MultiExitDiscriminator, Origin as TheirOrigin,
        PathAttribute as Theirs, PathAttributeValue as Value,
    },
    update::BgpUpdateMessage,
};
use proptest::prelude::*;
use rustbgpd_wire::{Message, NlriEntry, NotificationMessage, Origin, PathAttribute, encode_message};
use sextant_proto::Prefix;
use tokio::time::Instant;
use tokio_util::codec::{Decoder, Encoder};

use super::{
    decode::{Between, Treatment, next_message, read_update},
    encode::{GRACEFUL_SHUTDOWN, SessionParameters, end_of_rib, updates},
    notification::describe,
    open::Restart,
};
use crate::{
    bgp::{
        paths::{News, Path},
        peer::{Config, ConnectionId, Effect, Event, Peer},
    },
    settings::{Announce, BgpSettings, NeighbourSettings, PoolsSettings},
};

/// What an UPDATE says, whoever has read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    path: Vec<u32>,
    med: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large: Vec<[u32; 3]>,
    hops: Vec<Ipv6Addr>,
    announced: Vec<String>,
    withdrawn: Vec<String>,
}

fn read_by_us(octets: &[u8], four_octet_as: bool) -> Said {
    let mut received = BytesMut::from(octets);
    let Ok(Some(Message::Update(update))) = next_message(&mut received) else { panic!("{octets:02x?}") };
    // As between internal neighbours, so that nothing is left out.
    let read = read_update(&update, Between { internal: true, four_octet_as }).unwrap();
    assert_eq!(read.treatment, Treatment::Taken, "{:?}", read.faults);
    let mut said = Said::default();
    let text = |it: &NlriEntry| it.prefix.to_string();
    for attribute in read.parsed.attributes {
        match attribute {
            PathAttribute::Origin(origin) => assert_eq!(origin, Origin::Igp),
            PathAttribute::AsPath(path) => said.path = path.asns().collect(),
            PathAttribute::Med(med) => said.med = Some(med),
            PathAttribute::LocalPref(preference) => said.local_pref = Some(preference),
            PathAttribute::Communities(all) => said.communities = all,
            PathAttribute::LargeCommunities(all) => {
                said.large = all.iter().map(|it| [it.global_admin, it.local_data1, it.local_data2]).collect();
            }
            PathAttribute::MpReachNlri(reach) => {
                let IpAddr::V6(hop) = reach.next_hop else { panic!("{reach:?}") };
                said.hops = std::iter::once(hop).chain(reach.link_local_next_hop).collect();
                said.announced = reach.announced.iter().map(text).collect();
            }
            PathAttribute::MpUnreachNlri(unreach) => {
                said.withdrawn = unreach.withdrawn.iter().map(text).collect()
            }
            other => panic!("{other:?}"),
        }
    }
    said
}

fn decode(octets: &[u8], four_octet_as: bool) -> BgpMessage {
    let (message, ignored) =
        BgpCodec::new(four_octet_as).decode(&mut BytesMut::from(octets)).unwrap().unwrap();
    assert!(ignored.path_attr_errors().is_empty() && ignored.capability_errors().is_empty(), "{ignored:?}");
    message
}

fn read_by_them(octets: &[u8], four_octet_as: bool) -> Said {
    let BgpMessage::Update(update) = decode(octets, four_octet_as) else { panic!("{octets:02x?}") };
    let mut said = Said::default();
    let text = |it: &Ipv6UnicastAddress| it.network().to_string();
    for attribute in update.path_attributes() {
        match attribute.value() {
            Value::Origin(origin) => assert_eq!(*origin, TheirOrigin::IGP),
            Value::AsPath(TheirPath::As4PathSegments(all)) => {
                said.path = all.iter().flat_map(|it| it.as_numbers()).copied().collect();
            }
            Value::AsPath(TheirPath::As2PathSegments(all)) => {
                said.path = all.iter().flat_map(|it| it.as_numbers()).map(|asn| u32::from(*asn)).collect();
            }
            Value::MultiExitDiscriminator(med) => said.med = Some(med.metric()),
            Value::LocalPreference(preference) => said.local_pref = Some(preference.metric()),
            Value::Communities(all) => {
                said.communities = all.communities().iter().map(Community::value).collect()
            }
            Value::LargeCommunities(all) => {
                let three = |it: &TheirLarge| [it.global_admin(), it.local_data1(), it.local_data2()];
                said.large = all.communities().iter().map(three).collect();
            }
            Value::MpReach(MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri }) => {
                said.hops = std::iter::once(*next_hop_global).chain(*next_hop_local).collect();
                said.announced = nlri.iter().map(text).collect();
            }
            Value::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                said.withdrawn = nlri.iter().map(text).collect()
            }
            other => panic!("{other:?}"),
        }
    }
    said
}

fn some_prefix() -> impl Strategy<Value = Prefix> {
    // None of them multicast, which the second codec refuses.
    (any::<u128>(), 1u8..=128).prop_map(|(bits, len)| {
        Prefix::containing(Ipv6Addr::from_bits(bits & !(0xf << 124) | 0x2 << 124), len.max(4)).unwrap()
    })
}

fn some_path() -> impl Strategy<Value = Path> {
    let hop = proptest::option::of(
        any::<u64>().prop_map(|n| Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(n) + 1)),
    );
    (hop, any::<bool>()).prop_map(|(next_hop, leaving)| Path { next_hop, leaving, pool: None })
}

fn some_neighbour() -> impl Strategy<Value = NeighbourSettings> {
    let communities = proptest::collection::vec(any::<u32>(), 0..4);
    let large = proptest::collection::btree_set(any::<[u32; 3]>(), 0..4);
    let numbers = (proptest::option::of(any::<u32>()), any::<u32>(), prop_oneof![Just(65001), Just(65000)]);
    (communities, large, numbers).prop_map(|(communities, large, (med, local_pref, remote_as))| {
        NeighbourSettings {
            communities,
            large_communities: large.into_iter().collect(),
            med,
            local_pref,
            ..super::encode::tests::neighbour(remote_as)
        }
    })
}

fn some_news() -> impl Strategy<Value = News> {
    let announced = proptest::collection::btree_map(some_prefix(), some_path(), 0..400);
    let withdrawn = proptest::collection::btree_set(some_prefix(), 0..400);
    (announced, withdrawn).prop_map(|(announced, withdrawn)| News {
        announced: announced.into_iter().collect(),
        withdrawn: withdrawn.into_iter().collect(),
    })
}

/// What [`updates`] should have said of it all, in any order.
fn expected(news: &News, parameters: &SessionParameters<'_>) -> Vec<(String, Path)> {
    let own = |path: &Path| Path {
        next_hop: Some(path.next_hop.unwrap_or(parameters.own_address)),
        ..path.clone()
    };
    let mut all: Vec<_> =
        news.announced.iter().map(|(prefix, path)| (prefix.to_string(), own(path))).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn our_messages_are_decoded_the_same_by_the_second_codec(news in some_news(), neighbour in some_neighbour(), four_octet_as: bool) {
        let parameters = SessionParameters { four_octet_as, ..super::encode::tests::parameters(&neighbour) };
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for message in updates(&news, &parameters).unwrap() {
            let said = read_by_them(&message, four_octet_as);
            prop_assert_eq!(&said, &read_by_us(&message, four_octet_as));
            let leaving = said.communities.len() > neighbour.communities.len();
            let next_hop = said.hops.first().copied();
            announced.extend(said.announced.into_iter().map(|prefix| (prefix, Path { next_hop, leaving, pool: None })));
            withdrawn.extend(said.withdrawn);
            if next_hop.is_some() {
                let internal = neighbour.remote_as == 65001;
                prop_assert_eq!(said.path, if internal { vec![] } else { vec![65001] });
                prop_assert_eq!(said.med, neighbour.med);
                let preference = if leaving { 0 } else { neighbour.local_pref };
                prop_assert_eq!(said.local_pref, internal.then_some(preference));
                prop_assert_eq!(said.large, neighbour.large_communities.clone());
                prop_assert!(said.communities.starts_with(&neighbour.communities));
                prop_assert_eq!(leaving, said.communities.get(neighbour.communities.len()) == Some(&GRACEFUL_SHUTDOWN));
            }
        }
        announced.sort();
        prop_assert_eq!(announced, expected(&news, &parameters));
        let gone: Vec<_> = news.withdrawn.iter().map(ToString::to_string).collect();
        prop_assert_eq!(withdrawn, gone);
    }

    #[test]
    fn messages_of_the_second_codec_are_decoded_the_same_here(
        prefixes in proptest::collection::vec(some_prefix(), 1..100),
        path in proptest::collection::vec(1u32..65536, 1..20),
        numbers in (proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>())),
        communities in proptest::collection::vec(any::<u32>(), 1..20),
        large in proptest::collection::btree_set(any::<[u32; 3]>(), 1..20),
        local in proptest::option::of(any::<u64>()),
        four_octet_as: bool,
    ) {
        let said = Said {
            path,
            med: numbers.0,
            local_pref: numbers.1,
            communities,
            large: large.into_iter().collect(),
            hops: std::iter::once("2001:db8::1".parse().unwrap())
                .chain(local.map(|n| Ipv6Addr::from_bits((0xfe80 << 112) + u128::from(n))))
                .collect(),
            announced: prefixes.iter().map(ToString::to_string).collect(),
            withdrawn: vec![],
        };
        let octets = encode(BgpMessage::Update(theirs(&said, four_octet_as)), four_octet_as);
        prop_assert_eq!(read_by_us(&octets, four_octet_as), said);
    }
}

fn encode(message: BgpMessage, four_octet_as: bool) -> BytesMut {
    let mut octets = BytesMut::new();
    BgpCodec::new(four_octet_as).encode(message, &mut octets).unwrap();
    octets
}

/// An UPDATE of the second codec.
fn theirs(said: &Said, four_octet_as: bool) -> BgpUpdateMessage {
    let sequence = AsPathSegmentType::AsSequence;
    let path = if four_octet_as {
        TheirPath::As4PathSegments([As4PathSegment::new(sequence, said.path.clone())].into())
    } else {
        let short: Vec<_> = said.path.iter().map(|asn| u16::try_from(*asn).unwrap()).collect();
        TheirPath::As2PathSegments([As2PathSegment::new(sequence, short)].into())
    };
    let nlri: Vec<_> = said
        .announced
        .iter()
        .map(|text| Ipv6UnicastAddress::new(None, Ipv6Unicast::from_net(text.parse().unwrap()).unwrap()))
        .collect();
    let large: Vec<_> = said.large.iter().map(|[a, b, c]| TheirLarge::new(*a, *b, *c)).collect();
    let communities: Vec<_> = said.communities.iter().map(|it| Community::new(*it)).collect();
    let reach = MpReach::Ipv6Unicast {
        next_hop_global: said.hops[0],
        next_hop_local: said.hops.get(1).copied(),
        nlri: nlri.into(),
    };
    let well_known = |value| Theirs::from(false, true, false, false, value).unwrap();
    let optional = |transitive, value| Theirs::from(true, transitive, false, true, value).unwrap();
    let mut attributes =
        vec![optional(false, Value::MpReach(reach)), well_known(Value::Origin(TheirOrigin::IGP))];
    attributes.push(Theirs::from(false, true, false, true, Value::AsPath(path)).unwrap());
    attributes.extend(
        said.med.map(|it| optional(false, Value::MultiExitDiscriminator(MultiExitDiscriminator::new(it)))),
    );
    attributes.extend(said.local_pref.map(|it| well_known(Value::LocalPreference(LocalPreference::new(it)))));
    attributes.push(optional(true, Value::Communities(Communities::new(communities))));
    attributes.push(optional(true, Value::LargeCommunities(LargeCommunities::new(large))));
    BgpUpdateMessage::new(vec![], attributes, vec![])
}

#[test]
fn an_end_of_rib_is_one_there() {
    let neighbour = super::encode::tests::neighbour(65000);
    let BgpMessage::Update(update) =
        decode(&end_of_rib(&super::encode::tests::parameters(&neighbour)).unwrap(), true)
    else {
        panic!()
    };
    assert_eq!(format!("{:?}", update.end_of_rib()), "Some(Ipv6Unicast)");
}

#[test]
fn an_open_says_there_what_it_says_here() {
    for (asn, two) in [(65001, 65001), (4_200_000_001, 23456)] {
        let bgp = BgpSettings {
            local_as: asn,
            router_id: None,
            listen_port: 179,
            announce: Announce::Own,
            import_metric: 768,
            pools: PoolsSettings::new(),
            neighbours: vec![],
        };
        let neighbour = NeighbourSettings { restart_time: 120, ..super::encode::tests::neighbour(65000) };
        let config = Config::new(&bgp, &neighbour, Ipv4Addr::new(192, 0, 2, 1), "h1".parse().unwrap());
        let (restart, now) = (Restart { restarted: true, preserved: true }, Instant::now());
        let mut peer = Peer::new(config, restart, 0, now);
        peer.step(Event::Due, now, 0.0);
        let effects = peer.step(Event::Connected(ConnectionId(1)), now, 0.0);
        let open = effects.into_iter().find_map(|it| match it {
            Effect::Send(_, Message::Open(open)) => Some(open),
            _ => None,
        });
        let octets = encode_message(&Message::Open(open.unwrap())).unwrap();
        let BgpMessage::Open(open) = decode(&octets, true) else { panic!() };
        assert_eq!((open.my_as(), open.my_asn4(), open.hold_time()), (two, asn, 90));
        assert_eq!(open.bgp_id(), Ipv4Addr::new(192, 0, 2, 1));
        let said = format!("{:?}", open.capabilities());
        for part in
            ["MultiProtocolExtensions", "Ipv6Unicast", "RouteRefresh", "GracefulRestart", "FourOctetAs"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("Ipv4Unicast") && !said.contains("ExtendedMessage"), "{said}");
        assert!(said.contains("restart: true") && said.contains("time: 120"), "{said}");
    }
}

#[test]
fn a_shutdown_communication_is_read_on_both_sides() {
    let text = b"\x0bgone fishin";
    let ours = NotificationMessage::new(rustbgpd_wire::NotificationCode::Cease, 2, text.to_vec().into());
    let octets = encode_message(&Message::Notification(ours.clone())).unwrap();
    let value = text.to_vec().into_boxed_slice();
    let theirs = BgpNotificationMessage::CeaseError(CeaseError::AdministrativeShutdown { value });
    assert_eq!(decode(&octets, true), BgpMessage::Notification(theirs.clone()));
    let mut back = encode(BgpMessage::Notification(theirs), true);
    assert_eq!(next_message(&mut back), Ok(Some(Message::Notification(ours.clone()))));
    assert!(describe(&ours).ends_with(": gone fishin"));
}

/// The messages of a recording; the command that made it is in its first lines.
fn recorded(text: &str) -> Vec<Vec<u8>> {
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.as_bytes().chunks(2).map(octet).collect()).collect()
}

#[test]
fn recorded_messages_of_frr_and_bird_are_decoded_alike() {
    let hop = "2001:db8::fe:1";
    let frr = include_str!("recorded/frr.hex");
    let bird = include_str!("recorded/bird.hex");
    let expected_frr = [
        "[] []",
        &format!(
            "[::/0, 2001:db8:f:8000::/49, 2001:db8:f::f/128] [{hop}] [65000, 65000, 4200000000] Some(50) \
                  [fde80007, ffff0000, ffffff01] [[65000, 1, 2], [65000, 3, 4]]"
        ),
        &format!("[2001:db8:f:1::/64] [{hop}] [65000] Some(0) [] []"),
    ];
    let expected_bird = [
        format!("[2001:db8:b:1::/64, 2001:db8:b::b/128] [{hop}, LL] [65000] None [] []"),
        format!("[2001:db8:b:8000::/49] [{hop}, LL] [65000] None [fde80009] [[65000, 1, 9]]"),
        "[] []".to_owned(),
    ];
    assert_eq!(read_recording(frr), expected_frr);
    assert_eq!(read_recording(bird), expected_bird);
}

/// What both codecs read, which is the same.
fn read_recording(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for octets in recorded(text) {
        match next_message(&mut BytesMut::from(&octets[..])).unwrap().unwrap() {
            Message::Open(open) => {
                let BgpMessage::Open(theirs) = decode(&octets, true) else { panic!() };
                assert_eq!((open.four_byte_as(), open.hold_time), (theirs.my_asn4(), theirs.hold_time()));
                assert_eq!((open.bgp_identifier, open.four_byte_as()), (theirs.bgp_id(), 65000));
            }
            Message::Update(_) => {
                let said = read_by_us(&octets, true);
                assert_eq!(said, read_by_them(&octets, true));
                lines.push(line(&said));
            }
            Message::Keepalive => assert_eq!(decode(&octets, true), BgpMessage::KeepAlive),
            other => panic!("{other:?}"),
        }
    }
    lines
}

fn line(said: &Said) -> String {
    if said.announced.is_empty() {
        return format!("[{}] []", said.withdrawn.join(", "));
    }
    let hop = |it: &Ipv6Addr| if it.is_unicast_link_local() { "LL".to_owned() } else { it.to_string() };
    let hops: Vec<_> = said.hops.iter().map(hop).collect();
    let communities: Vec<_> = said.communities.iter().map(|it| format!("{it:08x}")).collect();
    format!(
        "[{}] [{}] {:?} {:?} [{}] {:?}",
        said.announced.join(", "),
        hops.join(", "),
        said.path,
        said.med,
        communities.join(", "),
        said.large
    )
}
