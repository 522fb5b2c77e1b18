//! RFC 4271 §6.1 and §6.2, RFC 6608: headers, OPEN messages, and messages that were not expected.

use bytes::Bytes;
use rustbgpd_fsm::{Action, Event, PeerConfig, Session};

use super::{super::*, message, read};

/// The NOTIFICATION that these octets are answered with, as `CODE/SUBCODE DATA`.
fn answer(octets: &[u8]) -> String {
    match read(octets) {
        Err(Misread::Answered(error)) => {
            let (code, subcode, data) = error.to_notification();
            format!("{}/{subcode} {:02x?}", code.as_u8(), &data[..])
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn rfc_4271_section_6_1_headers() {
    let header = |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
    let open = |len: usize| message(1, &vec![4; len]);
    let mut marker = message(4, &[]);
    marker[7] = 0xfe;
    let rows: [(&str, Vec<u8>, &str); 17] = [
        ("a marker that is none", marker, "1/1 []"),
        ("zeros", vec![0; 19], "1/1 []"),
        ("a length of 0", header(0, 4), "1/2 [00, 00]"),
        ("a length of 18", header(18, 4), "1/2 [00, 12]"),
        ("a length of 4097", header(4097, 2), "1/2 [10, 01]"),
        ("a length of 65535", header(0xffff, 2), "1/2 [ff, ff]"),
        ("an OPEN of 28", open(9), "1/2 [00, 1c]"),
        ("an UPDATE of 22", message(2, &[0; 3]), "1/2 [00, 16]"),
        ("a KEEPALIVE of 20", message(4, &[0]), "1/2 [00, 14]"),
        ("a ROUTE-REFRESH of 22", message(5, &[0; 3]), "1/2 [00, 16]"),
        ("a ROUTE-REFRESH with a torn end", message(5, &[0, 2, 0, 1, 1, 64]), "1/2 [00, 19]"),
        ("kind 0", header(19, 0), "1/3 [00]"),
        ("kind 6", header(19, 6), "1/3 [06]"),
        ("kind 255", header(4096, 255), "1/3 [ff]"),
        // A wrong length is said before the rest has come, and half a header waits.
        ("an OPEN of 20 that is not there yet", header(20, 1), "1/2 [00, 14]"),
        ("an UPDATE that is not there yet", header(4096, 2), "Ok(None)"),
        ("18 octets", vec![0xff; 18], "Ok(None)"),
    ];
    for (what, octets, expected) in rows {
        assert_eq!(answer(&octets), expected, "{what}");
    }
    for len in [19, 20] {
        assert_eq!(
            read(&message(3, &vec![6; len - 19])),
            Err(Misread::Notification(u16::try_from(len).unwrap()))
        );
    }
}

fn open(more: &[u8]) -> Vec<u8> {
    [&[4, 0xfd, 0xe8, 0, 90, 192, 0, 2, 1][..], more].concat()
}

/// IPv6 unicast and the AS number 65000, as a neighbour must say.
const CAPABILITIES: [u8; 14] = [2, 12, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfd, 0xe8];

fn parameters(more: &[u8]) -> Vec<u8> {
    let all = [&CAPABILITIES[..], more].concat();
    [&[u8::try_from(all.len()).unwrap()][..], &all].concat()
}

/// What an agent of this AS that waits for an OPEN says to this one.
fn opened(body: &[u8], local_as: u32) -> String {
    let mut config = PeerConfig::new(local_as, 65000, std::net::Ipv4Addr::new(192, 0, 2, 9));
    config.families = vec![(Afi::Ipv6, Safi::Unicast)];
    config.required_families = config.families.clone();
    let mut session = Session::new(config);
    session.handle_event(Event::ManualStart);
    session.handle_event(Event::TcpConnectionConfirmed);
    let event = match read(&message(1, body)) {
        Ok(Some(Message::Open(open))) => Event::OpenReceived(open),
        Err(Misread::Answered(error)) => Event::DecodeError(error),
        other => panic!("{other:?}"),
    };
    let before = session.state();
    for action in session.handle_event(event) {
        match action {
            Action::SendKeepalive => return "keepalive".to_owned(),
            Action::SendNotification(sent) => {
                let sent = refined(sent, before);
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
    assert_eq!(
        [SessionState::OpenSent, SessionState::OpenConfirm, SessionState::Established].map(sent),
        [1, 2, 3]
    );
    let cease = NotificationMessage::new(NotificationCode::Cease, 0, Bytes::new());
    assert_eq!(refined(cease.clone(), SessionState::Established), cease);
}

#[test]
fn only_a_refresh_of_what_we_tell_is_one() {
    let asked = |body: [u8; 4]| {
        let Ok(Some(Message::RouteRefresh(it))) = read(&message(5, &body)) else { panic!("{body:?}") };
        asks_for_ours(&it)
    };
    assert!(asked([0, 2, 0, 1]));
    // IPv4, multicast, a family nobody knows, and the ends of an enhanced refresh, which was not agreed on.
    for other in [[0, 1, 0, 1], [0, 2, 0, 2], [9, 9, 0, 9], [0, 2, 1, 1], [0, 2, 2, 1]] {
        assert!(!asked(other), "{other:?}");
    }
}
