//! RFC 4271 §6.2, RFC 6608: OPEN messages, and messages that were not expected.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::super::{Config, ConnectionId, Effect, Event, Peer, Received, State, session::refined};
use crate::bgp::wire::{
    Message, NotificationCode, NotificationMessage,
    decode::{Misread, next_message},
    open::Restart,
};

fn open(more: &[u8]) -> Vec<u8> {
    [&[4, 0xfd, 0xe8, 0, 90, 192, 0, 2, 1][..], more].concat()
}

/// IPv6 unicast and the AS number 65000, as a neighbour must say.
const CAPABILITIES: [u8; 14] = [2, 12, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfd, 0xe8];

fn parameters(more: &[u8]) -> Vec<u8> {
    let all = [&CAPABILITIES[..], more].concat();
    [&[u8::try_from(all.len()).unwrap()][..], &all].concat()
}

/// What an agent of this AS that waits for an OPEN answers to this one.
fn opened(body: &[u8], local_as: u32) -> String {
    let mut config = Config::of_tests();
    config.session.local_asn = local_as;
    let now = Instant::now();
    let mut peer = Peer::new(config, Restart::default(), 0, now);
    peer.step(Event::Due, now, 0.0);
    peer.step(Event::Connected(ConnectionId(1)), now, 0.0);
    let length = u16::try_from(19 + body.len()).unwrap();
    let octets = [&[0xff; 16][..], &length.to_be_bytes(), &[1], body].concat();
    let received = match next_message(&mut BytesMut::from(&octets[..])) {
        Ok(Some(Message::Open(open))) => Received::Open(open),
        Err(Misread::Answered(error)) => Received::Malformed(error),
        other => panic!("{other:?}"),
    };
    for effect in peer.step(Event::Received(ConnectionId(1), received), now, 0.0) {
        match effect {
            Effect::Send(_, Message::Keepalive) => return "keepalive".to_owned(),
            Effect::Send(_, Message::Notification(sent)) => {
                return format!("{}/{} {:02x?}", sent.code.as_u8(), sent.subcode, &sent.data[..]);
            }
            _ => {}
        }
    }
    "nothing".to_owned()
}

#[test]
fn rfc_4271_section_6_2_opens() {
    let with = |at: usize, octets: &[u8]| {
        let mut body = open(&parameters(&[]));
        body[at..at + octets.len()].copy_from_slice(octets);
        body
    };
    let capability = |octets: &[u8]| {
        let len = u8::try_from(octets.len()).unwrap();
        open(&parameters(&[&[2, len][..], octets].concat()))
    };
    let ipv4_only = open(&[14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 0, 0, 0xfd, 0xe8]);
    let rows = [
        ("as it should be", with(0, &[]), "keepalive"),
        ("version 3", with(0, &[3]), "2/1 [00, 04]"),
        ("version 5", with(0, &[5]), "2/1 [00, 04]"),
        ("another AS", with(20, &[0, 0, 0xfd, 0xe9]), "2/2 []"),
        ("AS 0", with(20, &[0; 4]), "2/2 []"),
        ("AS 0 in two octets", with(1, &[0, 0]), "2/2 []"),
        ("hold time 0", with(3, &[0, 0]), "keepalive"),
        ("hold time 1", with(3, &[0, 1]), "2/6 []"),
        ("hold time 2", with(3, &[0, 2]), "2/6 []"),
        ("hold time 3", with(3, &[0, 3]), "keepalive"),
        ("hold time 65535", with(3, &[0xff, 0xff]), "keepalive"),
        ("identifier 0.0.0.0", with(5, &[0; 4]), "2/3 []"),
        ("our identifier, of another AS", with(5, &[192, 0, 2, 9]), "keepalive"),
        ("a capability nobody knows", capability(&[200, 3, 1, 2, 3]), "keepalive"),
        ("an empty one nobody knows", capability(&[201, 0]), "keepalive"),
        ("the same one twice", capability(&[65, 4, 0, 0, 0xfd, 0xe8]), "keepalive"),
        ("a capability beyond its parameter", capability(&[200, 9, 1]), "2/0 []"),
        ("half a capability", capability(&[200]), "2/0 []"),
        ("an AS number of two octets in its capability", capability(&[65, 2, 1, 1]), "keepalive"),
        ("no IPv6 unicast", ipv4_only, "2/7 [01, 04, 00, 02, 00, 01]"),
        ("no capabilities", open(&[0]), "2/7 [01, 04, 00, 02, 00, 01]"),
        ("a parameter nobody knows", open(&parameters(&[7, 1, 0])), "2/4 []"),
        ("authentication, of old", open(&parameters(&[1, 1, 0])), "2/4 []"),
        ("a parameter beyond the OPEN", open(&parameters(&[2, 9, 0])), "2/0 []"),
        ("parameters beyond the OPEN", open(&[99, 2, 0]), "2/0 []"),
        ("octets after the parameters", [open(&parameters(&[])), vec![0]].concat(), "2/0 []"),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .map(|(what, body, expected)| (what, opened(body, 65001), expected))
        .filter(|(_, said, expected)| said != *expected)
        .map(|(what, said, expected)| format!("{what}: {said}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(opened(&with(5, &[192, 0, 2, 9]), 65000), "2/3 []", "our identifier, of our AS");
}

#[test]
fn rfc_6608_says_where_a_message_was_not_expected() {
    let sent = |state| {
        let notification = NotificationMessage::new(NotificationCode::FsmError, 0, Bytes::new());
        refined(notification, state).subcode
    };
    assert_eq!([State::OpenSent, State::OpenConfirm, State::Established].map(sent), [1, 2, 3]);
    let cease = NotificationMessage::new(NotificationCode::Cease, 0, Bytes::new());
    assert_eq!(refined(cease.clone(), State::Established), cease);
}
