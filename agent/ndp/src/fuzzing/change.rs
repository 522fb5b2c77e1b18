//! New inputs: events of the corpus in another order, with changed packets.

use std::net::Ipv6Addr;

use super::{
    case::{BRIDGES, Case, Event, OF_THE_KERNEL, OWN, Settings, UPLINKS},
    random::Random,
    rfc::{group, repaired},
};
use crate::message::Mac;

const MACS: [Mac; 9] = [
    [2, 0, 0, 0, 0, 0x11],
    [2, 0, 0, 0, 0, 0x12],
    [2, 0, 0, 0, 0, 0x99],
    [2, 0, 0, 0, 0, 0x98],
    OWN[0],
    OWN[3],
    [0xff; 6],
    [0x33, 0x33, 0, 0, 0, 1],
    [0; 6],
];
const ADDRESSES: [&str; 20] = [
    "2001:db8::c000",
    "2001:db8::c001",
    "2001:db8::c002",
    "2001:db8::c003",
    "2001:db8::c004",
    OF_THE_KERNEL,
    "2001:db8::c008",
    "2001:db8::1",
    "2001:db8:0:0:8000::",
    "2001:db8:0:0:8000::1",
    "2001:db8:0:0:8000::2",
    "2001:db8:0:0:8000::3",
    "2001:db8:0:0:8000:1::2",
    "fe80::1",
    "fe80::2",
    "fe80::7",
    "::",
    "::1",
    "ff02::1",
    "ff02::1:ff00:c003",
];
const WAITS: [u64; 9] = [0, 1, 99, 100, 300, 700, 1000, 4000, 30_000];
const MOST_EVENTS: usize = 30;
/// One input in so many is a flood.
const FLOODS: usize = 100;
const FLOOD: usize = 1500;
/// In the second prefix.
const SCANNED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x8000, 0, 0x7777, 0);

pub(super) fn new(corpus: &[Case], random: &mut Random) -> Case {
    let settings = Settings {
        all: random.once_in(4),
        overrides: random.once_in(4),
        from_target: random.once_in(4),
        addresses: random.once_in(4),
    };
    let adopted = (0..random.below(3)).map(|_| Event::Adopted(address(random)));
    let mut events: Vec<_> = adopted.collect();
    let flood = random.once_in(FLOODS);
    let count = if flood { FLOOD } else { 1 + random.below(MOST_EVENTS) };
    while events.len() < count {
        let event = event(corpus, random).map(|event| if flood { scan(event, random) } else { event });
        events.extend(event);
    }
    Case { settings, events }
}

fn event(corpus: &[Case], random: &mut Random) -> Option<Event> {
    match random.below(12) {
        0 | 1 => Some(Event::Wait(*random.one_of(&WAITS))),
        2 => {
            let mac = (!random.once_in(3)).then(|| *random.one_of(&MACS));
            Some(Event::Gone { bridge: *random.one_of(&BRIDGES), mac })
        }
        _ => {
            let events = &random.one_of(corpus).events;
            let packets: Vec<_> = events.iter().filter(|it| matches!(it, Event::Packet { .. })).collect();
            let Event::Packet { link, from, packet } = packets.get(random.below(packets.len().max(1)))?
            else {
                return None;
            };
            Some(changed(*link, *from, packet.clone(), random))
        }
    }
}

/// One neighbour asks for an address that no container has, and does not wait for an answer.
fn scan(event: Event, random: &mut Random) -> Event {
    let Event::Packet { mut packet, .. } = event else { return Event::Wait(1) };
    let target = Ipv6Addr::from(u128::from(SCANNED) | u128::from(random.next() & 0xffff));
    put(&mut packet, 24, &group(target).octets());
    put(&mut packet, 48, &target.octets());
    Event::Packet { link: UPLINKS[0], from: MACS[0], packet: repaired(packet) }
}

fn changed(mut link: u32, mut from: Mac, mut packet: Vec<u8>, random: &mut Random) -> Event {
    if random.once_in(4) {
        link = *random.one_of(&[UPLINKS[0], UPLINKS[1], BRIDGES[0], BRIDGES[1], 9]);
    }
    if random.once_in(4) {
        from = *random.one_of(&MACS);
    }
    for _ in 0..random.below(4) {
        change(&mut packet, random);
    }
    if !random.once_in(8) {
        packet = repaired(packet);
    }
    if random.once_in(8) {
        packet.extend([0; 9]);
    }
    Event::Packet { link, from, packet }
}

fn change(packet: &mut Vec<u8>, random: &mut Random) {
    match random.below(9) {
        0 => put(packet, 8, &address(random).octets()),
        1 => put(packet, 24, &address(random).octets()),
        2 | 3 => {
            let target = address(random);
            put(packet, 48, &target.octets());
            if !random.once_in(4) {
                put(packet, 24, &group(target).octets());
            }
        }
        4 => packet.extend(option(random)),
        5 => packet.truncate(64),
        6 => packet.truncate(random.below(packet.len() + 1)),
        7 => {
            let field = *random.one_of(&[0, 4, 5, 6, 7, 40, 41, 42, 44, 64, 65]);
            let value = *random.one_of(&[0, 1, 2, 58, 135, 136, 254, 255, 0x40, 0x60]);
            put(packet, field, &[value]);
        }
        _ if packet.is_empty() => {}
        _ => {
            let (at, value) = (random.below(packet.len()), random.octet());
            put(packet, at, &[value]);
        }
    }
}

/// An option, of the right form or not.
fn option(random: &mut Random) -> Vec<u8> {
    let kind = *random.one_of(&[1, 1, 2, 2, 14, 253]);
    let len = *random.one_of(&[1, 1, 1, 0, 2, 255]);
    let value = *random.one_of(&MACS);
    let more = vec![0; if random.once_in(4) { 0 } else { 8 * usize::from(len).saturating_sub(1) % 64 }];
    [&[kind, len][..], &value, &more].concat()
}

fn address(random: &mut Random) -> Ipv6Addr {
    let known: Ipv6Addr = random.one_of(&ADDRESSES).parse().unwrap();
    if random.once_in(4) {
        Ipv6Addr::from(u128::from(known) ^ u128::from(random.next() & 0xff07))
    } else {
        known
    }
}

fn put(packet: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(there) = packet.get_mut(at..at + octets.len()) {
        there.copy_from_slice(octets);
    }
}
