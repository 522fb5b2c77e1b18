//! Tables of what a peer does, event by event.

mod opens;

use bytes::BytesMut;

use super::*;
use crate::{bfd, bgp::wire::decode::next_message};

/// A peer whose neighbour is at the other end of numbered connections.
struct Bed {
    peer: Peer,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let now = Instant::now();
        let restart = Restart { restarted: true, preserved: true };
        Self { peer: Peer::new(Config::of_tests(), restart, 0, now), now }
    }

    /// With a session on connection 1, which this end has opened.
    fn established() -> Self {
        let mut bed = Self::new();
        bed.step(Event::Due);
        bed.step(connected(1));
        bed.step(open(1, 200, true));
        assert_eq!(bed.step(keepalive(1)), "Established, announce all");
        bed
    }

    /// All effects but the faults, in short.
    fn step(&mut self, event: Event) -> String {
        let effects = self.peer.step(event, self.now, 1.0);
        effects.iter().filter_map(text).collect::<Vec<_>>().join(", ")
    }

    /// The faults only.
    fn faults(&mut self, event: Event) -> String {
        let effects = self.peer.step(event, self.now, 1.0);
        let fault = |effect: Effect| if let Effect::Fault(it) = effect { Some(it.to_string()) } else { None };
        effects.into_iter().filter_map(fault).collect::<Vec<_>>().join(", ")
    }

    /// So many seconds later, if nothing is due before.
    fn wait(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
        let due = self.peer.next_deadline();
        assert!(due.is_none_or(|at| at >= self.now), "something is due before");
    }

    /// The next deadline, in milliseconds from now.
    fn due_in(&self) -> Option<u128> {
        Some((self.peer.next_deadline()? - self.now).as_millis())
    }

    /// At the next deadline.
    fn due(&mut self) -> String {
        self.now = self.peer.next_deadline().expect("something is due");
        self.step(Event::Due)
    }

    fn check(&mut self, script: &[(Event, &str)]) {
        for (nth, (event, expected)) in script.iter().enumerate() {
            assert_eq!(self.step(event.clone()), *expected, "number {nth}: {event:?}");
        }
    }
}

fn text(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Connect => "connect".to_owned(),
        Effect::Send(id, Message::Open(_)) => format!("OPEN to {}", id.0),
        Effect::Send(id, Message::Keepalive) => format!("KEEPALIVE to {}", id.0),
        Effect::Send(id, Message::Notification(it)) => {
            format!("{}/{} to {}", it.code.as_u8(), it.subcode, id.0)
        }
        Effect::Send(_, other) => format!("{other:?}"),
        Effect::ResetUnlessAcknowledged(id) => format!("reset {}", id.0),
        Effect::Close(id) => format!("close {}", id.0),
        Effect::StateChanged(state) => format!("{state:?}"),
        Effect::Established => "announce all".to_owned(),
        Effect::AnnounceAgain => "announce again".to_owned(),
        Effect::ShutDown => "shut down".to_owned(),
        Effect::CancelConnect | Effect::Notified { .. } | Effect::Fault(_) => return None,
    })
}

fn connected(id: u32) -> Event {
    Event::Connected(ConnectionId(id))
}

fn accepted(id: u32) -> Event {
    Event::Accepted(ConnectionId(id))
}

fn lost(id: u32) -> Event {
    Event::Lost(ConnectionId(id), "gone".to_owned())
}

fn keepalive(id: u32) -> Event {
    Event::Received(ConnectionId(id), Received::Keepalive)
}

/// An OPEN of 192.0.2.`last` in AS 65000, with or without graceful restart.
fn open(id: u32, last: u8, graceful: bool) -> Event {
    let mut capabilities = vec![1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfd, 0xe8];
    if graceful {
        capabilities.extend([64, 6, 0, 120, 0, 2, 1, 0x80]);
    }
    let len = u8::try_from(capabilities.len()).unwrap();
    let body = [&[4, 0xfd, 0xe8, 0, 90, 192, 0, 2, last, len + 2, 2, len][..], &capabilities].concat();
    let length = u16::try_from(19 + body.len()).unwrap();
    let octets = [&[0xff; 16][..], &length.to_be_bytes(), &[1], &body].concat();
    let message = next_message(&mut BytesMut::from(&octets[..])).unwrap();
    let Some(Message::Open(open)) = message else { panic!("{message:?}") };
    Event::Received(ConnectionId(id), Received::Open(open))
}

fn health(state: bfd::State, failures: u64) -> Event {
    Event::Bfd(Health { state, failures })
}

#[test]
fn a_session_is_established_and_ends_after_the_hold_time() {
    let mut bed = Bed::new();
    bed.check(&[
        (Event::Due, "connect, Connect"),
        (connected(1), "OPEN to 1, OpenSent"),
        (open(1, 200, true), "KEEPALIVE to 1, OpenConfirm"),
        (keepalive(1), "Established, announce all"),
        (Event::Received(ConnectionId(1), Received::Update), ""),
        (Event::Received(ConnectionId(1), Received::RouteRefresh(false)), ""),
        (Event::Received(ConnectionId(1), Received::RouteRefresh(true)), "announce again"),
    ]);
    assert_eq!(bed.due_in(), Some(30_000));
    assert_eq!([bed.due(), bed.due()], ["KEEPALIVE to 1", "KEEPALIVE to 1"]);
    bed.now = bed.peer.next_deadline().unwrap();
    // Both timers expire at once.
    let first = bed.step(Event::Due);
    let second = bed.faults(Event::Due);
    assert_eq!(first, "4/0 to 1, close 1, Idle");
    assert_eq!(second, "");
    assert_eq!(bed.due_in(), Some(1_000), "the idle hold");
}

#[test]
fn a_connection_that_fails_is_tried_again_within_ten_seconds() {
    let mut bed = Bed::new();
    bed.step(Event::Due);
    let refused = || Event::ConnectFailed("refused".to_owned());
    let waits: Vec<_> = (0..6)
        .map(|_| {
            assert_eq!(bed.step(refused()), "Active");
            let wait = bed.due_in();
            assert_eq!(bed.due(), "connect, Connect");
            wait
        })
        .collect();
    assert_eq!(waits, [1_000, 1_000, 10_000, 10_000, 10_000, 10_000].map(Some));
    assert_eq!(bed.faults(refused()), "refused");
}

#[test]
fn the_idle_hold_grows_with_failures_and_is_short_after_a_session() {
    let mut bed = Bed::new();
    let refused = || Event::Received(ConnectionId(1), Received::Notification(notification::collision()));
    let waits: Vec<_> = (0..6)
        .map(|_| {
            assert_eq!(bed.due(), "connect, Connect");
            bed.step(connected(1));
            assert_eq!(bed.step(refused()), "close 1, Idle");
            bed.due_in()
        })
        .collect();
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000].map(Some));
    bed.due();
    bed.step(connected(1));
    bed.step(open(1, 200, true));
    bed.step(keepalive(1));
    assert_eq!(bed.step(lost(1)), "Idle");
    assert_eq!(bed.due_in(), Some(1_000));
}

#[test]
fn a_neighbour_that_sends_no_open_is_reported_and_given_up() {
    let mut bed = Bed::new();
    bed.step(Event::Due);
    bed.step(connected(1));
    assert_eq!(bed.due_in(), Some(5_000));
    bed.now = bed.peer.next_deadline().unwrap();
    assert_eq!(bed.faults(Event::Due), "connected, but no session");
    assert_eq!(bed.due_in(), Some(10_000));
    assert_eq!(bed.due(), "reset 1, 4/0 to 1, close 1, Idle");
}

#[test]
fn of_two_connections_the_identifiers_decide() {
    // This end is 192.0.2.9. On the second connection; whether the first one has its OPEN already.
    for (last, early, expected, kept) in [
        (200, false, "6/7 to 1, close 1, Active, OpenSent, KEEPALIVE to 2, OpenConfirm", 2),
        (200, true, "6/7 to 1, close 1, Idle, OpenSent, KEEPALIVE to 2, OpenConfirm", 2),
        (1, false, "6/7 to 2, close 2", 1),
        (1, true, "6/7 to 2, close 2", 1),
    ] {
        let mut bed = Bed::new();
        bed.step(Event::Due);
        bed.step(connected(1));
        assert_eq!(bed.step(accepted(2)), "OPEN to 2");
        if early {
            bed.step(open(1, last, true));
        }
        assert_eq!(bed.step(open(2, last, true)), expected, "{last}, {early}");
        assert_eq!(bed.peer.connection(), Some(ConnectionId(kept)));
        if kept == 1 && !early {
            bed.step(open(1, last, true));
        }
        assert_eq!(bed.step(keepalive(kept)), "Established, announce all", "{last}, {early}");
    }
}

#[test]
fn the_second_connection_takes_the_place_of_a_first_one_that_ends() {
    let mut bed = Bed::new();
    bed.step(Event::Due);
    bed.step(connected(1));
    bed.check(&[
        (accepted(2), "OPEN to 2"),
        (accepted(3), "close 2, OPEN to 3"),
        (lost(1), "Active, OpenSent"),
        (open(3, 1, true), "KEEPALIVE to 3, OpenConfirm"),
        (keepalive(3), "Established, announce all"),
    ]);
}

#[test]
fn a_second_connection_ends_with_a_session_on_the_first_or_after_ten_seconds() {
    let mut bed = Bed::new();
    bed.step(Event::Due);
    bed.step(connected(1));
    bed.step(accepted(2));
    bed.step(open(1, 200, true));
    assert_eq!(bed.step(keepalive(1)), "Established, 6/7 to 2, close 2, announce all");
    bed.wait(10);
    assert_eq!(bed.step(accepted(3)), "OPEN to 3");
    assert_eq!(bed.due_in(), Some(10_000));
    assert_eq!(bed.due(), "close 3");
    assert!(bed.peer.is_established());
}

#[test]
fn a_second_connection_without_an_open_is_refused() {
    let rows = [
        (Received::Keepalive, "5/1 to 2, close 2", "it sent no OPEN first, on a second connection"),
        (Received::MalformedNotification("short".to_owned()), "close 2", ""),
    ];
    for (received, expected, fault) in rows {
        let event = Event::Received(ConnectionId(2), received);
        let mut bed = Bed::established();
        bed.step(accepted(2));
        assert_eq!(bed.step(event.clone()), expected);
        bed.step(accepted(2));
        assert_eq!(bed.faults(event), fault);
        assert!(bed.peer.is_established());
    }
    let mut bed = Bed::established();
    bed.step(accepted(2));
    assert_eq!(bed.step(open(2, 0, true)), "6/7 to 2, close 2", "a session stands that is a second old");
}

#[test]
fn rfc_4724_a_neighbour_that_restarted_unnoticed_gets_a_new_session_without_a_notification() {
    for (graceful, expected) in
        [(true, "close 1, Idle, OpenSent, KEEPALIVE to 2, OpenConfirm"), (false, "6/7 to 2, close 2")]
    {
        let mut bed = Bed::new();
        bed.step(Event::Due);
        bed.step(connected(1));
        bed.step(open(1, 200, graceful));
        bed.step(keepalive(1));
        bed.wait(6);
        bed.step(accepted(2));
        assert_eq!(bed.step(open(2, 200, graceful)), expected, "{graceful}");
    }
}

#[test]
fn the_restart_flag_is_set_until_the_first_session() {
    let restarted = |effects: Vec<Effect>| {
        let flags = effects.into_iter().find_map(|effect| match effect {
            Effect::Send(_, Message::Open(open)) => Some(format!("{:?}", open.capabilities)),
            _ => None,
        });
        flags.unwrap().contains("restart_state: true")
    };
    let mut bed = Bed::new();
    bed.step(Event::Due);
    assert!(restarted(bed.peer.step(connected(1), bed.now, 1.0)));
    let mut bed = Bed::established();
    bed.step(lost(1));
    bed.due();
    assert!(!restarted(bed.peer.step(connected(2), bed.now, 1.0)));
}

#[test]
fn a_drained_host_ends_its_session_with_a_reason_and_begins_none() {
    let mut bed = Bed::established();
    let effects = bed.peer.step(Event::Drained(true), bed.now, 1.0);
    let sent = effects.iter().find_map(|effect| match effect {
        Effect::Send(_, Message::Notification(it)) => Some(notification::describe(it)),
        _ => None,
    });
    assert_eq!(sent.as_deref(), Some("Administrative Shutdown: node h1 is drained"));
    let effects = effects.iter().filter_map(text).collect::<Vec<_>>().join(", ");
    assert_eq!(effects, "6/2 to 1, close 1, Idle, shut down");
    assert_eq!(bed.due_in(), None);
    bed.check(&[(Event::Drained(true), ""), (accepted(2), "close 2"), (Event::Drained(false), "")]);
    assert_eq!(bed.due_in(), Some(0));
    assert_eq!(bed.due(), "connect, Connect");
}

#[test]
fn rfc_5882_a_path_that_fails_ends_the_session_and_connections_wait_for_it() {
    use bfd::State::{Down, Up};
    let mut bed = Bed::established();
    bed.check(&[
        (health(Up, 0), ""),
        (health(Down, 1), "6/10 to 1, close 1, Idle"),
        (accepted(2), ""),
        (accepted(3), "close 2"),
    ]);
    assert!(!bed.peer.listens_to(ConnectionId(3)));
    assert_eq!(bed.due_in(), Some(90_000), "at most the hold time");
    bed.check(&[(health(Up, 1), "")]);
    assert_eq!(bed.due_in(), Some(0));
    assert_eq!(bed.due(), "connect, Connect, OPEN to 3, OpenSent");
}

#[test]
fn too_many_prefixes_end_the_session_for_a_minute() {
    let mut bed = Bed::established();
    assert_eq!(bed.step(Event::TooManyPrefixes), "6/1 to 1, close 1, Idle");
    assert_eq!(bed.due_in(), Some(60_000));
    assert_eq!(bed.step(Event::TooManyPrefixes), "", "there is no session by then");
    assert_eq!(
        bed.step(accepted(2)),
        "connect, Connect, OPEN to 2, OpenSent",
        "the neighbour may come before"
    );
}

#[test]
fn a_neighbour_that_moved_is_tried_at_once() {
    let mut bed = Bed::new();
    bed.check(&[
        (Event::Moved, ""),
        (Event::Due, "connect, Connect"),
        (Event::Moved, "connect, Connect"),
        (Event::ConnectFailed("refused".to_owned()), "Active"),
        (Event::Moved, "connect, Connect"),
        (connected(1), "OPEN to 1, OpenSent"),
        (Event::Moved, ""),
    ]);
}

#[test]
fn a_passive_peer_waits_for_the_neighbour() {
    let mut bed = Bed::new();
    bed.peer.config.passive = true;
    bed.check(&[(Event::Due, "Connect"), (accepted(1), "OPEN to 1, OpenSent")]);
}

#[test]
fn faults_say_who_ended_a_session() {
    let rows = [
        (Received::Notification(notification::too_many_prefixes()), "it ended the session: Maximum Number"),
        (Received::MalformedNotification("short".to_owned()), "it sent what cannot be read: short"),
    ];
    for (received, expected) in rows {
        let found = Bed::established().faults(Event::Received(ConnectionId(1), received));
        assert!(found.starts_with(expected), "{found}");
    }
    let mut bed = Bed::established();
    assert!(bed.faults(open(1, 200, true)).starts_with("we ended the session: "));
}
