//! RFC 4271 §6.1: headers; and which ROUTE-REFRESH messages count.

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
