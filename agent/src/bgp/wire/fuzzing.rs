//! The decoder, with octets of any kind.

use bytes::BytesMut;

use super::{
    DecodeError, Message,
    decode::{Between, Misread, Treatment, next_message, read_update},
    encode,
    notification::{answer, describe},
};

/// Octets that a router might send, after one that selects the kind of session.
///
/// # Panics
/// If what is read does not fit together.
pub fn decode(octets: &[u8]) {
    let Some((first, rest)) = octets.split_first() else { return };
    let between = Between { internal: first & 1 == 0, four_octet_as: first & 2 == 0 };
    let mut received = BytesMut::from(rest);
    loop {
        let before = received.len();
        match next_message(&mut received) {
            Ok(Some(message)) => {
                assert!(before - received.len() >= 19, "a message has a header");
                read(&message, between);
            }
            Ok(None) => return,
            Err(Misread::Answered(error)) => return answerable(&error),
            Err(Misread::Notification(length)) => return assert!(length < 21),
        }
    }
}

fn read(message: &Message, between: Between) {
    match message {
        Message::Update(update) => match read_update(update, between) {
            Ok(read) => assert_eq!(read.treatment == Treatment::Taken, read.faults.is_empty()),
            Err(error) => answerable(&error),
        },
        Message::Notification(notification) => assert!(!describe(notification).is_empty()),
        _ => {}
    }
}

/// What cannot be read gets a NOTIFICATION, which can be sent.
fn answerable(error: &DecodeError) {
    sendable(&Message::Notification(answer(error)));
    assert!(!error.to_string().is_empty());
}

/// # Panics
/// If the message cannot be sent.
pub(in crate::bgp) fn sendable(message: &Message) {
    let octets = encode::message(message).expect("it can be sent");
    assert!(octets.len() <= 4096, "{message:?}");
}
