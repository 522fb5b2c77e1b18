//! What the fuzzers in `agent/fuzz` call with octets of any kind, and an ordinary test with their corpus.

use std::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use rustbgpd_fsm::{Action, Event, PeerConfig, Session, SessionState};
use rustbgpd_wire::{Afi, DecodeError, Message, NotificationMessage, Safi, encode_message};

use super::{
    peer::open::Restart,
    status::words,
    wire::decode::{Between, Misread, Treatment, next_message, read_update, refined},
};

/// Octets that a router might send, after one that says between whom.
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
        Message::Notification(notification) => assert!(!words(notification).is_empty()),
        _ => {}
    }
}

/// What cannot be read gets a NOTIFICATION, which can be sent.
fn answerable(error: &DecodeError) {
    let (code, subcode, data) = error.to_notification();
    sendable(&Message::Notification(NotificationMessage::new(code, subcode, data)));
    assert!(!error.to_string().is_empty());
}

fn sendable(message: &Message) {
    let octets = encode_message(message).expect("it can be sent");
    assert!(octets.len() <= 4096, "{message:?}");
}

/// What happens to one session: each octet something, those from 8 on with that many octets of the router's.
///
/// # Panics
/// If the state machine does what it must not.
pub fn session(octets: &[u8]) {
    let mut config = PeerConfig::new(65001, 65000, Ipv4Addr::new(192, 0, 2, 1));
    config.families = vec![(Afi::Ipv6, Safi::Unicast)];
    config.required_families = config.families.clone();
    config.graceful_restart = true;
    let (mut session, mut received, mut rest) = (Session::new(config), BytesMut::new(), octets);
    while let Some((what, after)) = rest.split_first() {
        rest = after;
        let event = match what {
            0 => Event::ManualStart,
            1 => Event::TcpConnectionConfirmed,
            2 => Event::TcpConnectionAcknowledged,
            3 => Event::TcpConnectionFails,
            4 => Event::ConnectRetryTimerExpires,
            5 => Event::HoldTimerExpires,
            6 => Event::KeepaliveTimerExpires,
            7 => Event::ManualStop { reason: Some(Bytes::from_static(b"\x04done")) },
            len => {
                let (said, after) = rest.split_at(rest.len().min(usize::from(*len)));
                rest = after;
                received.extend_from_slice(said);
                hear(&mut session, &mut received);
                continue;
            }
        };
        feed(&mut session, event);
    }
}

/// What was received, for as long as somebody listens.
fn hear(session: &mut Session, received: &mut BytesMut) {
    use SessionState::{Established, OpenConfirm, OpenSent};
    while matches!(session.state(), OpenSent | OpenConfirm | Established) {
        let event = match next_message(received) {
            Ok(Some(message)) => event(message, session),
            Ok(None) => return,
            Err(Misread::Answered(error)) => Event::DecodeError(error),
            Err(Misread::Notification(_)) => Event::TcpConnectionFails,
        };
        feed(session, event);
    }
    received.clear();
}

fn event(message: Message, session: &Session) -> Event {
    let four_octet_as = session.negotiated().is_some_and(|it| it.four_octet_as);
    match message {
        Message::Open(open) => Event::OpenReceived(open),
        Message::Notification(notification) => Event::NotificationReceived(notification),
        Message::RouteRefresh(_) => Event::RouteRefreshReceived { afi: Afi::Ipv6, safi: Safi::Unicast },
        Message::Update(update) => match read_update(&update, Between { internal: false, four_octet_as }) {
            Ok(_) => Event::UpdateReceived,
            Err(error) => Event::DecodeError(error),
        },
        _ => Event::KeepaliveReceived,
    }
}

fn feed(session: &mut Session, event: Event) {
    let before = session.state();
    let actions = session.handle_event(event);
    let established = SessionState::Established;
    let now = session.state();
    let has = |is: fn(&Action) -> bool| actions.iter().any(is);
    assert!(actions.len() < 12, "{actions:?}");
    assert_eq!(
        has(|it| matches!(it, Action::SessionEstablished(_))),
        now == established && before != established,
        "{before:?}: {actions:?}"
    );
    if before == established && now != established {
        assert!(has(|it| matches!(it, Action::SessionDown | Action::CloseTcpConnection)), "{actions:?}");
    }
    if let Some(agreed) = session.negotiated().filter(|_| now == established) {
        assert_eq!((agreed.peer_asn, agreed.hold_time == 0 || agreed.hold_time >= 3), (65000, true));
        assert_eq!(agreed.negotiated_families, [(Afi::Ipv6, Safi::Unicast)]);
    }
    assert_eq!(now == established, session.negotiated().is_some() && now == established);
    for action in actions {
        match action {
            Action::SendOpen(open) => sendable(&Message::Open(Restart::default().amend(open))),
            Action::SendNotification(it) => sendable(&Message::Notification(refined(it, before))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// All of a target's corpus, which must not be empty.
    fn corpus(target: &str, entry: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() > 10, "{} is nearly empty", dir.display());
        for file in files {
            eprintln!("{}", file.display());
            entry(&fs::read(file).unwrap());
        }
    }

    #[test]
    fn the_corpus_of_the_decoder() {
        corpus("decode", super::decode);
    }

    #[test]
    fn the_corpus_of_the_state_machine() {
        corpus("session", super::session);
    }
}
