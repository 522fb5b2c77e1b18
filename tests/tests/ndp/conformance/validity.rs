//! Solicitations that nobody may answer: invalid ones, and those for addresses that no container here has.

use std::net::Ipv6Addr;

use sextant_tests::{SECONDS, Solicitation};

use super::Row;

/// A VLAN that nobody is in.
const VLAN: u16 = 77;
/// No interface of the link has it: a switch sends frames for it to all ports.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("no answer: hop limit 254", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { hop_limit: 254, ..scene.ask() })
        }),
        Row::new("no answer: code 1", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { code: 1, ..scene.ask() })
        }),
        Row::new("no answer: wrong checksum", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { wrong_checksum: true, ..scene.ask() })
        }),
        Row::new("no answer: cut off", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { cut: Some(70), ..scene.ask() })
        }),
        Row::new("no answer: an option of length 0", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { options: vec![1, 0, 2, 0, 0, 0, 0, 1], ..scene.ask() })
        }),
        Row::new("no answer: an option that is longer than the packet", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { options: vec![1, 2, 2, 0, 0, 0, 0, 1], ..scene.ask() })
        }),
        Row::new("no answer: a link-layer address of 14 octets", "RFC 2464 §6", |scene| {
            let options = [&[1, 2][..], &scene.asker.mac, &[0; 8]].concat();
            scene.no_answer(&Solicitation { options, ..scene.ask() })
        }),
        Row::new("no answer: a multicast target", "RFC 4861 §7.1.1", |scene| {
            scene.no_answer(&Solicitation { target: "ff02::c001".parse()?, ..scene.ask() })
        }),
        Row::new("no answer: a multicast source", "RFC 4291 §2.7", |scene| {
            scene.no_answer(&Solicitation { source: "ff02::c001".parse()?, ..scene.ask() })
        }),
        Row::new("no answer: the loopback address as source", "RFC 4291 §2.5.3", |scene| {
            scene.no_answer(&Solicitation { source: Ipv6Addr::LOCALHOST, ..scene.ask() })
        }),
        Row::new("no answer: a fragment", "RFC 6980 §5", |scene| {
            scene.no_answer(&Solicitation { fragment: true, ..scene.ask() })
        }),
        Row::new("no answer: the tag of another VLAN", "it is another link", |scene| {
            scene.no_answer(&Solicitation { vlan: Some(VLAN), ..scene.ask() })
        }),
        Row::new("no answer: a frame for another host", "IEEE 802.3", |scene| {
            scene.no_answer(&scene.ask().unicast(NOBODY))
        }),
        Row::new("no answer: a probe with a link-layer address", "RFC 4861 §7.1.1", |scene| {
            let options = scene.ask().options;
            scene.no_answer(&Solicitation { options, ..scene.ask().probe() })
        }),
        Row::new("no answer: a probe that is not sent to the target's group", "RFC 4861 §7.1.1", |scene| {
            let destination = "ff02::1".parse()?;
            scene.no_answer(&Solicitation { destination, ..scene.ask().probe() })
        }),
    ]
}

/// Of addresses that are not this host's to answer for.
pub(super) fn rows_of_others() -> Vec<Row> {
    vec![
        Row::new("no answer: an address that no container has", "RFC 4861 §7.2.8", |scene| {
            scene.no_answer(&scene.asker.solicitation(scene.unused(1)))
        }),
        Row::new("no answer: a probe for such an address", "RFC 4862 §5.4.3", |scene| {
            scene.no_answer(&scene.asker.solicitation(scene.unused(2)).probe())
        }),
        Row::new("no answer: an address beyond the container prefix", "one answers for one's own", |scene| {
            let beyond = Ipv6Addr::from_bits(scene.prefix.last_addr().to_bits() + 5);
            scene.no_answer(&scene.asker.solicitation(beyond))
        }),
        Row::new(
            "no answer: the prefix's own address, which all its routers have",
            "RFC 4291 §2.6.1",
            |scene| scene.no_answer(&scene.asker.solicitation(scene.prefix.addr())),
        ),
        Row::new("after all of these an address in use is answered as before", "RFC 4861 §7.1", |scene| {
            scene.asker.ask(&scene.ask(), 3 * SECONDS).map(drop)
        }),
    ]
}
