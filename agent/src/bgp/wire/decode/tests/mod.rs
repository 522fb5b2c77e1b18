//! RFC 7606 line by line, in octets.

mod headers;

use bytes::BytesMut;

use super::*;

const EXTERNAL: Between = Between { internal: false, four_octet_as: true };
const INTERNAL: Between = Between { internal: true, four_octet_as: true };

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

fn read(octets: &[u8]) -> Result<Option<Message>, Misread> {
    next_message(&mut BytesMut::from(octets))
}

fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, kind, u8::try_from(value.len()).unwrap()][..], value].concat()
}

fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

fn as_path() -> Vec<u8> {
    attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe8])
}

/// IPv6 unicast by way of 2001:db8::1.
fn reach_value(nlri: &[u8]) -> Vec<u8> {
    let hop: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&[0, 2, 1, 16][..], &hop.octets(), &[0], nlri].concat()
}

/// 2001:db8::/32.
const PREFIX: [u8; 5] = [32, 0x20, 0x01, 0x0d, 0xb8];

fn reach() -> Vec<u8> {
    attribute(0x80, 14, &reach_value(&PREFIX))
}

fn unreach() -> Vec<u8> {
    attribute(0x80, 15, &[&[0, 2, 1][..], &PREFIX].concat())
}

fn update_of(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |it: &[u8]| u16::try_from(it.len()).unwrap().to_be_bytes();
    message(2, &[&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nlri].concat())
}

/// What becomes of an UPDATE, in short: `taken`, `discard`, `withdraw`, or `reset CODE/SUBCODE`.
fn outcome(octets: &[u8], between: Between) -> String {
    let reset = |error: &DecodeError| {
        let (code, subcode, _) = error.to_notification();
        format!("reset {}/{subcode}", code.as_u8())
    };
    let update = match read(octets) {
        Ok(Some(Message::Update(update))) => update,
        Err(Misread::Answered(error)) => return reset(&error),
        other => panic!("{other:?}"),
    };
    match read_update(&update, between) {
        Ok(read) => {
            assert_eq!(read.treatment == Treatment::Taken, read.faults.is_empty(), "{:?}", read.faults);
            match read.treatment {
                Treatment::Taken => "taken".to_owned(),
                Treatment::AttributesDiscarded => "discard".to_owned(),
                Treatment::AsWithdrawal => "withdraw".to_owned(),
            }
        }
        Err(error) => reset(&error),
    }
}

/// An UPDATE of these attributes, those that must be there before them.
fn with(attributes: &[Vec<u8>]) -> Vec<u8> {
    update_of(&[], &[&[reach(), origin(), as_path()].concat()[..], &attributes.concat()].concat(), &[])
}

fn check(rows: &[(&str, Vec<u8>, &str)], between: Between) {
    let wrong: Vec<_> = rows
        .iter()
        .map(|(what, octets, expected)| (what, outcome(octets, between), expected))
        .filter(|(_, outcome, expected)| outcome != *expected)
        .map(|(what, outcome, expected)| format!("{what}: {outcome}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_valid_update_is_accepted() {
    let all = [
        attribute(0x80, 4, &[0, 0, 0, 5]),
        attribute(0x40, 6, &[]),
        attribute(0xc0, 7, &[0, 0, 0xfd, 0xe8, 192, 0, 2, 1]),
        attribute(0xc0, 8, &[0xfd, 0xe8, 0, 7]),
        attribute(0xe0, 8 + 8, &[0; 8]),
        attribute(0xc0, 32, &[1; 12]),
    ];
    let rows = [
        ("the whole of it", with(&all), "taken"),
        ("an unknown optional transitive attribute", with(&[attribute(0xc0, 211, &[1, 2, 3])]), "taken"),
        ("the same, partial", with(&[attribute(0xe0, 211, &[])]), "taken"),
        ("an unknown optional non-transitive one", with(&[attribute(0x80, 212, &[1])]), "taken"),
        ("an extended length that need not be", with(&[vec![0x90, 4, 0, 4, 0, 0, 0, 1]]), "taken"),
        ("a withdrawal alone", update_of(&[], &unreach(), &[]), "taken"),
        ("End-of-RIB", update_of(&[], &attribute(0x80, 15, &[0, 2, 1]), &[]), "taken"),
        ("End-of-RIB of IPv4", update_of(&[], &[], &[]), "taken"),
        ("IPv4 withdrawn", update_of(&[24, 192, 0, 2], &[], &[]), "taken"),
        ("RFC 4760 §3: a NEXT_HOP that says nothing", with(&[attribute(0x40, 3, &[0; 4])]), "taken"),
        (
            "an empty AS_PATH",
            update_of(&[], &[reach(), origin(), attribute(0x40, 2, &[])].concat(), &[]),
            "taken",
        ),
    ];
    check(&rows, EXTERNAL);
    check(&rows, INTERNAL);
}

#[test]
fn rfc_7606_section_3_flags_missing_and_doubled_attributes() {
    let without = |attributes: &[Vec<u8>]| update_of(&[], &attributes.concat(), &[]);
    let hop = attribute(0x40, 3, &[192, 0, 2, 1]);
    let v4 = |attributes: &[Vec<u8>]| update_of(&[], &attributes.concat(), &[24, 192, 0, 2]);
    let again = |more: &[Vec<u8>]| with(more);
    let rows = [
        // (b)
        ("withdrawn routes beyond the message", message(2, &[0, 9, 0, 0]), "reset 3/1"),
        ("attributes beyond the message", message(2, &[0, 0, 0, 9]), "reset 3/1"),
        // (c), with those well-known first
        ("ORIGIN optional", without(&[reach(), attribute(0xc0, 1, &[0]), as_path()]), "withdraw"),
        ("ORIGIN not transitive", without(&[reach(), attribute(0x00, 1, &[0]), as_path()]), "withdraw"),
        ("AS_PATH optional", without(&[reach(), origin(), attribute(0xc0, 2, &[])]), "withdraw"),
        ("NEXT_HOP optional", with(&[attribute(0xc0, 3, &[192, 0, 2, 1])]), "withdraw"),
        ("MED transitive", with(&[attribute(0xc0, 4, &[0; 4])]), "withdraw"),
        ("MED well-known", with(&[attribute(0x40, 4, &[0; 4])]), "withdraw"),
        ("ATOMIC_AGGREGATE optional", with(&[attribute(0xc0, 6, &[])]), "withdraw"),
        ("AGGREGATOR well-known", with(&[attribute(0x40, 7, &[0, 0, 1, 1, 1, 1, 1, 1])]), "withdraw"),
        ("COMMUNITIES not transitive", with(&[attribute(0x80, 8, &[0; 4])]), "withdraw"),
        ("LARGE_COMMUNITY well-known", with(&[attribute(0x40, 32, &[0; 12])]), "withdraw"),
        ("EXTENDED COMMUNITIES not transitive", with(&[attribute(0x80, 16, &[0; 8])]), "withdraw"),
        // §5.3
        (
            "MP_REACH_NLRI transitive",
            without(&[attribute(0xc0, 14, &reach_value(&PREFIX)), origin(), as_path()]),
            "reset 3/4",
        ),
        ("MP_UNREACH_NLRI well-known", without(&[attribute(0x40, 15, &[0, 2, 1])]), "reset 3/4"),
        // (d)
        ("no ORIGIN", without(&[reach(), as_path()]), "withdraw"),
        ("no AS_PATH", without(&[reach(), origin()]), "withdraw"),
        ("no NEXT_HOP", v4(&[origin(), as_path()]), "withdraw"),
        ("an IPv4 route with all", v4(&[origin(), as_path(), hop]), "taken"),
        // RFC 4271 §6.3, which (c) to (f) leave as it is
        ("an unknown well-known attribute", with(&[attribute(0x40, 211, &[1])]), "reset 3/2"),
        // (g)
        ("ORIGIN twice", again(&[origin()]), "discard"),
        ("ORIGIN twice, the second wrong", again(&[attribute(0x40, 1, &[9])]), "discard"),
        ("AS_PATH twice", again(&[as_path()]), "discard"),
        ("COMMUNITIES twice", again(&[attribute(0xc0, 8, &[0; 4]), attribute(0xc0, 8, &[0; 4])]), "discard"),
        (
            "an unknown attribute twice",
            again(&[attribute(0xc0, 211, &[]), attribute(0xc0, 211, &[])]),
            "discard",
        ),
        ("MP_REACH_NLRI twice", again(&[reach()]), "reset 3/1"),
        ("MP_UNREACH_NLRI twice", without(&[unreach(), unreach()]), "reset 3/1"),
        // (h)
        (
            "one to discard, one to withdraw",
            with(&[attribute(0x40, 6, &[1]), attribute(0x80, 4, &[1])]),
            "withdraw",
        ),
        ("one to withdraw, one to reset", with(&[attribute(0x80, 4, &[1]), reach()]), "reset 3/1"),
        // (i), (j)
        ("a withdrawn prefix of 33", update_of(&[33, 1, 1, 1, 1, 1], &[], &[]), "reset 3/10"),
        ("a withdrawn prefix cut short", update_of(&[24, 192], &[], &[]), "reset 3/10"),
        ("a prefix cut short", v4_cut(), "reset 3/10"),
    ];
    check(&rows, EXTERNAL);
}

fn v4_cut() -> Vec<u8> {
    let attributes = [origin(), as_path(), attribute(0x40, 3, &[192, 0, 2, 1])].concat();
    update_of(&[], &attributes, &[32, 192, 0, 2])
}

#[test]
fn rfc_7606_section_4_lengths_of_attributes() {
    let cut = |rest: &[u8]| with(&[rest.to_vec()]);
    let first = |rest: &[u8]| update_of(&[], &[rest, &[reach(), origin(), as_path()].concat()].concat(), &[]);
    let rows = [
        ("one octet left", cut(&[0x40]), "withdraw"),
        ("no length left", cut(&[0x40, 6]), "withdraw"),
        ("half an extended length left", cut(&[0x50, 6, 0]), "withdraw"),
        ("a length beyond the attributes", cut(&[0xc0, 8, 200, 0]), "withdraw"),
        ("an extended length beyond them", cut(&[0xd0, 8, 0xff, 0xff, 0]), "withdraw"),
        ("MP_UNREACH_NLRI beyond them", cut(&[0x80, 15, 200, 0, 2, 1]), "reset 3/9"),
        // §5.2: what it announces is somewhere in it, and not to be found
        ("MP_REACH_NLRI swallowed", first(&[0xd0, 8, 0xff, 0xff]), "reset 3/1"),
    ];
    check(&rows, EXTERNAL);
    check(&rows, INTERNAL);
}

#[test]
fn rfc_7606_section_5_what_is_announced_or_withdrawn() {
    let only = |attributes: &[Vec<u8>]| update_of(&[], &attributes.concat(), &[]);
    let of = |value: &[u8]| only(&[attribute(0x80, 14, value), origin(), as_path()]);
    let gone = |value: &[u8]| only(&[attribute(0x80, 15, value)]);
    let hop = |hop: &str| {
        let hop: std::net::Ipv6Addr = hop.parse().unwrap();
        of(&[&[0, 2, 1, 16][..], &hop.octets(), &[0], &PREFIX].concat())
    };
    let two = |second: &str| {
        let [first, second] = ["2001:db8::1", second].map(|it| it.parse::<std::net::Ipv6Addr>().unwrap());
        of(&[&[0, 2, 1, 32][..], &first.octets(), &second.octets(), &[0], &PREFIX].concat())
    };
    let rows = [
        // §5.2
        ("a wrong ORIGIN, and no route", only(&[attribute(0x40, 1, &[9]), as_path()]), "reset 3/1"),
        ("a wrong ORIGIN, and a withdrawal", only(&[unreach(), attribute(0x40, 1, &[9])]), "reset 3/1"),
        ("a wrong AGGREGATOR, and no route", only(&[attribute(0xc0, 7, &[1])]), "discard"),
        // §5.3, §7.11
        ("MP_REACH_NLRI of 4 octets", of(&[0, 2, 1, 0]), "reset 3/5"),
        ("MP_UNREACH_NLRI of 2 octets", gone(&[0, 2]), "reset 3/5"),
        ("a next hop of 4 octets", of(&[&[0, 2, 1, 4, 192, 0, 2, 1, 0][..], &PREFIX].concat()), "reset 3/9"),
        (
            "a next hop of 24 octets",
            of(&[&[0, 2, 1, 24][..], &[0x20; 24], &[0], &PREFIX].concat()),
            "reset 3/9",
        ),
        ("a next hop beyond the attribute", of(&[0, 2, 1, 200, 1, 2, 3]), "reset 3/9"),
        ("a prefix of 129", of(&reach_value(&[129; 18])), "reset 3/9"),
        ("a prefix cut short", of(&reach_value(&[64, 0x20, 1])), "reset 3/9"),
        ("a withdrawn prefix of 129", gone(&[&[0, 2, 1, 129][..], &[1; 17]].concat()), "reset 3/9"),
        ("a withdrawn prefix cut short", gone(&[0, 2, 1, 64, 1]), "reset 3/9"),
        ("a family nobody knows", of(&[&[0, 99, 1, 16][..], &[0x20; 16], &[0]].concat()), "reset 3/9"),
        ("an unspecified next hop", hop("::"), "withdraw"),
        ("a next hop that is all nodes", hop("ff02::1"), "withdraw"),
        ("a next hop that is everybody's own", hop("::1"), "withdraw"),
        ("a second next hop that is link-local", two("fe80::1"), "taken"),
        ("a second next hop that is not", two("2001:db8::2"), "withdraw"),
    ];
    check(&rows, EXTERNAL);
    check(&rows, INTERNAL);
}

/// RFC 7606 §7.1 to §7.4, §7.6 to §7.8, §7.14, RFC 8092 §6, RFC 7607, RFC 9774: alike inside and outside.
#[test]
fn rfc_7606_section_7_each_attribute() {
    let instead = |kind: u8, value: &[u8]| {
        let of = |other: u8, right: Vec<u8>| if other == kind { attribute(0x40, kind, value) } else { right };
        update_of(&[], &[reach(), of(1, origin()), of(2, as_path())].concat(), &[])
    };
    let more = |flags: u8, kind: u8, value: &[u8]| with(&[attribute(flags, kind, value)]);
    let rows = [
        ("ORIGIN 3", instead(1, &[3]), "withdraw"),
        ("ORIGIN 255", instead(1, &[255]), "withdraw"),
        ("ORIGIN empty", instead(1, &[]), "withdraw"),
        ("ORIGIN of 2", instead(1, &[0, 0]), "withdraw"),
        ("AS_PATH of an unknown kind", instead(2, &[9, 1, 0, 0, 0, 1]), "withdraw"),
        ("AS_PATH of a confederation", instead(2, &[3, 1, 0, 0, 0, 1]), "withdraw"),
        ("AS_PATH of nobody", instead(2, &[2, 0]), "withdraw"),
        ("AS_PATH that overruns", instead(2, &[2, 2, 0, 0, 0, 1]), "withdraw"),
        ("AS_PATH that underruns", instead(2, &[2, 1, 0, 0, 0, 1, 2]), "withdraw"),
        ("AS_PATH with 0", instead(2, &[2, 1, 0, 0, 0, 0]), "withdraw"),
        ("AS_PATH with a set", instead(2, &[1, 1, 0, 0, 0, 1]), "withdraw"),
        ("NEXT_HOP of 3", more(0x40, 3, &[1, 2, 3]), "withdraw"),
        ("NEXT_HOP of 16", more(0x40, 3, &[1; 16]), "withdraw"),
        ("MED of 3", more(0x80, 4, &[1; 3]), "withdraw"),
        ("MED empty", more(0x80, 4, &[]), "withdraw"),
        ("ATOMIC_AGGREGATE of 1", more(0x40, 6, &[1]), "discard"),
        ("AGGREGATOR of 6", more(0xc0, 7, &[1; 6]), "discard"),
        ("AGGREGATOR of 9", more(0xc0, 7, &[1; 9]), "discard"),
        ("AGGREGATOR of AS 0", more(0xc0, 7, &[0, 0, 0, 0, 1, 1, 1, 1]), "discard"),
        ("COMMUNITIES empty", more(0xc0, 8, &[]), "withdraw"),
        ("COMMUNITIES of 5", more(0xc0, 8, &[1; 5]), "withdraw"),
        ("EXTENDED COMMUNITIES empty", more(0xc0, 16, &[]), "withdraw"),
        ("EXTENDED COMMUNITIES of 9", more(0xc0, 16, &[1; 9]), "withdraw"),
        ("LARGE_COMMUNITY empty", more(0xc0, 32, &[]), "withdraw"),
        ("LARGE_COMMUNITY of 13", more(0xc0, 32, &[1; 13]), "withdraw"),
    ];
    check(&rows, EXTERNAL);
    check(&rows, INTERNAL);
}

#[test]
fn rfc_7606_sections_7_5_7_9_and_7_10_what_is_not_an_external_neighbours_to_say() {
    for kind in [5u8, 9, 10] {
        let right = if kind == 5 { 0x40 } else { 0x80 };
        let rows = |wrong: &'static str| {
            [
                ("as it should be", with(&[attribute(right, kind, &[0, 0, 0, 1])]), "taken"),
                ("too short", with(&[attribute(right, kind, &[1; 3])]), wrong),
                ("empty", with(&[attribute(right, kind, &[])]), wrong),
                ("wrong flags", with(&[attribute(right ^ 0xc0, kind, &[0, 0, 0, 1])]), wrong),
            ]
        };
        check(&rows("withdraw"), INTERNAL);
        check(&rows("discard"), EXTERNAL);
    }
    // Right or wrong, it is not used.
    for between in [EXTERNAL, INTERNAL] {
        let Ok(Some(Message::Update(update))) = read(&with(&[attribute(0x40, 5, &[0, 0, 0, 9])])) else {
            panic!()
        };
        let attributes = read_update(&update, between).unwrap().parsed.attributes;
        assert_eq!(attributes.contains(&PathAttribute::LocalPref(9)), between.internal);
    }
}

#[test]
fn two_octet_as_numbers_are_read_as_such() {
    let between = Between { internal: false, four_octet_as: false };
    let path = |value: &[u8]| update_of(&[], &[reach(), origin(), attribute(0x40, 2, value)].concat(), &[]);
    let aggregator = |len| {
        let short = attribute(0x40, 2, &[2, 1, 0xfd, 0xe8]);
        update_of(&[], &[reach(), origin(), short, attribute(0xc0, 7, &vec![1; len])].concat(), &[])
    };
    let rows = [
        ("of two", path(&[2, 1, 0xfd, 0xe8]), "taken"),
        ("of four", path(&[2, 1, 0, 0, 0xfd, 0xe8]), "withdraw"),
        ("AGGREGATOR of 6", aggregator(6), "taken"),
        ("AGGREGATOR of 8", aggregator(8), "discard"),
    ];
    check(&rows, between);
}

#[test]
fn words_name_the_attribute_and_what_is_wrong() {
    let said = |octets: &[u8]| {
        let Ok(Some(Message::Update(update))) = read(octets) else { panic!() };
        read_update(&update, EXTERNAL)
            .map(|read| read.faults.join("; "))
            .unwrap_or_else(|error| error.to_string())
    };
    let no_path = update_of(&[], &[reach(), origin()].concat(), &[]);
    assert_eq!(said(&no_path), "AS_PATH is missing");
    let words = said(&with(&[attribute(0xc0, 8, &[1; 5])]));
    assert!(words.starts_with("COMMUNITIES: ") && words.contains("length 5"), "{words}");
    let words = said(&update_of(&[], &attribute(0x40, 1, &[9]), &[]));
    assert!(words.contains("ORIGIN: ") && words.contains("in an UPDATE that announces nothing"), "{words}");
}

#[test]
fn a_next_hop_may_be_link_local_in_either_half() {
    let with_hops = |hops: &[&str]| {
        let octets = hops.iter().flat_map(|hop| hop.parse::<std::net::Ipv6Addr>().unwrap().octets());
        let head =
            [&[0, 2, 1, u8::try_from(hops.len() * 16).unwrap()][..], &octets.collect::<Vec<_>>()].concat();
        let reach = attribute(0x80, 14, &[&head[..], &[0], &PREFIX].concat());
        update_of(&[], &[reach, origin(), as_path()].concat(), &[])
    };
    for hops in [
        &["2001:db8::1"][..],
        &["2001:db8::1", "fe80::1"],
        &["fe80::1"],
        &["fe80::1", "fe80::1"],
        &["fe80::1", "fe80::2"],
        &["::", "fe80::1"],
    ] {
        check(&[("link-local", with_hops(hops), "taken")], EXTERNAL);
    }
    for hops in [
        &["::"][..],
        &["::1", "fe80::1"],
        &["ff02::1", "fe80::1"],
        &["fe80::1", "2001:db8::1"],
        &["::", "::"],
    ] {
        check(&[("no next hop", with_hops(hops), "withdraw")], EXTERNAL);
    }
}
