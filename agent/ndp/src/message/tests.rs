use proptest::prelude::*;

use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 7];

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn solicited() -> Vec<u8> {
    solicitation(addr("2001:db8::1"), MAC, addr("2001:db8::c009"))
}

/// With this change, and a checksum that is right again.
fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    let len = u16::try_from(packet.len().saturating_sub(HEADER)).unwrap();
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    if packet.len() >= HEADER + 4 {
        packet[42..44].copy_from_slice(&[0, 0]);
        let sum = checksum::of(address(&packet[8..24]), address(&packet[24..40]), &packet[40..]);
        packet[42..44].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// As tcpdump shows one of Linux: `ndisc6 2001:db8::c009 eth0`.
#[test]
fn a_solicitation_is_read() {
    let expected = Message {
        kind: Kind::Solicitation,
        source: addr("2001:db8::1"),
        destination: addr("ff02::1:ff00:c009"),
        target: addr("2001:db8::c009"),
        mac: Some(MAC),
    };
    assert_eq!(decode(&solicited()), Ok(expected));
    let padded = [solicited(), vec![0; 9]].concat();
    assert_eq!(decode(&padded), Ok(expected), "Ethernet pads short frames");
    let without = changed(solicited(), |it| it.truncate(64));
    assert_eq!(decode(&without), Ok(Message { mac: None, ..expected }));
    assert_eq!(multicast_mac(expected.destination), [0x33, 0x33, 0xff, 0, 0xc0, 9]);
}

#[test]
fn flags_and_the_targets_mac_are_advertised() {
    let it = Advertisement {
        source: addr("fe80::7"),
        destination: addr("2001:db8::1"),
        target: addr("2001:db8::c009"),
        mac: MAC,
        solicited: true,
        overrides: false,
    };
    let packet = advertisement(&it);
    assert_eq!(packet[40..48], [136, 0, packet[42], packet[43], 0xc0, 0, 0, 0]);
    assert_eq!(packet[64..], [2, 1, 2, 0, 0, 0, 0, 7]);
    let read = decode(&packet).unwrap();
    assert_eq!((read.kind, read.target, read.mac), (Kind::Advertisement, it.target, Some(MAC)));
    let to_all = Advertisement { destination: ALL_NODES, solicited: false, overrides: true, ..it };
    assert_eq!(advertisement(&to_all)[44], 0xa0);
    let wrong = Advertisement { destination: ALL_NODES, ..it };
    assert_eq!(decode(&advertisement(&wrong)), Err(Invalid::Unspecified));
}

#[test]
fn duplicate_address_detection_is_recognised() {
    let nobody = |packet: Vec<u8>| changed(packet, |it| it[8..24].fill(0));
    let probe = nobody(changed(solicited(), |it| it.truncate(64)));
    assert!(decode(&probe).unwrap().is_dad());
    assert_eq!(decode(&nobody(solicited())), Err(Invalid::Unspecified), "with a link-layer address");
    let unicast = changed(probe, |it| it[24..40].copy_from_slice(&addr("2001:db8::c009").octets()));
    assert_eq!(decode(&unicast), Err(Invalid::Unspecified), "not to the group");
}

#[test]
fn invalid_packets_are_discarded() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, Invalid); 16] = [
        (|it| it[7] = 254, Invalid::HopLimit),
        (|it| it[41] = 1, Invalid::Code),
        (|it| it[48] = 0xff, Invalid::Address),
        (|it| it[8] = 0xff, Invalid::Address),
        (|it| it[48..64].fill(0), Invalid::Address),
        (|it| it[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()), Invalid::Address),
        (|it| it[48..64].copy_from_slice(&Ipv6Addr::LOCALHOST.octets()), Invalid::Address),
        (|it| it.truncate(63), Invalid::Length),
        (|it| it.truncate(41), Invalid::Length),
        (|it| it[65] = 0, Invalid::Option),
        (|it| it[65] = 2, Invalid::Option),
        (|it| it.truncate(65), Invalid::Option),
        (|it| it[0] = 0x45, Invalid::Other),
        (|it| it[6] = 17, Invalid::Other),
        (|it| it[40] = 133, Invalid::Other),
        (|it| it[40] = 128, Invalid::Other),
    ];
    for (number, (change, invalid)) in cases.into_iter().enumerate() {
        assert_eq!(decode(&changed(solicited(), change)), Err(invalid), "case {number}");
    }
    let mut wrong = solicited();
    wrong[43] ^= 1;
    assert_eq!(decode(&wrong), Err(Invalid::Checksum));
    let mut longer = solicited();
    longer[5] += 1;
    assert_eq!(decode(&longer), Err(Invalid::Length), "the header names more than there is");
    assert_eq!(decode(&[]), Err(Invalid::Length));
}

#[test]
fn many_options_are_skipped() {
    let many = changed(solicited(), |it| {
        it.truncate(64);
        it.extend([14, 1, 0, 0, 0, 0, 0, 0].repeat(100));
        it.extend([1, 1, 2, 0, 0, 0, 0, 7]);
    });
    assert_eq!(decode(&many).unwrap().mac, Some(MAC));
}

proptest! {
    #[test]
    fn any_octets_are_judged(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&octets);
    }

    #[test]
    fn changed_messages_are_judged(at in 0_usize..72, value: u8, cut in 0_usize..73) {
        let mut packet = solicited();
        packet[at] = value;
        packet.truncate(cut);
        let _ = decode(&packet);
    }

    #[test]
    fn what_is_encoded_is_read(source: u128, target: u128, mac: Mac) {
        let (source, target) = (Ipv6Addr::from(source), Ipv6Addr::from(target));
        prop_assume!(!source.is_multicast() && !target.is_multicast());
        prop_assume!(!source.is_unspecified() && !target.is_unspecified());
        let read = decode(&solicitation(source, mac, target)).unwrap();
        prop_assert_eq!((read.source, read.target, read.mac), (source, target, Some(mac)));
    }
}
