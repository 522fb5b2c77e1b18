//! A peer, with events in any order and octets of any kind.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant as StdInstant},
};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{Config, ConnectionId, Effect, Event, Peer, Received, State};
use crate::bgp::wire::{
    Message,
    decode::{Between, Misread, asks_for_ours, next_message, read_update},
    fuzzing::sendable,
    open::Restart,
};

/// What happens to one peer: each octet something, those from 8 on with that many octets of the router's.
///
/// # Panics
/// If the peer does what it must not.
pub fn session(octets: &[u8]) {
    let (mut bed, mut rest) = (Bed::new(), octets);
    while let Some((what, after)) = rest.split_first() {
        rest = after;
        match what {
            0 | 4 => bed.until_due(),
            1 => bed.connected(),
            2 => bed.accepted(),
            3 => bed.lost(),
            5 => bed.wait(Duration::from_secs(100)),
            6 => bed.wait(Duration::from_secs(1)),
            7 => bed.toggle_drained(),
            len => {
                let (said, after) = rest.split_at(rest.len().min(usize::from(*len)));
                rest = after;
                bed.hear(said);
            }
        }
    }
}

struct Bed {
    peer: Peer,
    now: Instant,
    /// With what was received of each.
    open: Vec<(ConnectionId, BytesMut)>,
    next_id: u32,
    dialing: bool,
    drained: bool,
}

impl Bed {
    fn new() -> Self {
        let now = Instant::from_std(StdInstant::now());
        let peer = Peer::new(Config::of_tests(), Restart::default(), 0, now);
        Self { peer, now, open: Vec::new(), next_id: 0, dialing: false, drained: false }
    }

    fn until_due(&mut self) {
        self.now = self.peer.next_deadline().unwrap_or(self.now).max(self.now);
        self.step(Event::Due);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..100 {
            if self.peer.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.step(Event::Due);
        }
        panic!("the peer does not come to rest: {:?}", self.peer);
    }

    fn connected(&mut self) {
        if std::mem::take(&mut self.dialing) {
            let id = self.add();
            self.step(Event::Connected(id));
        }
    }

    fn accepted(&mut self) {
        let id = self.add();
        self.step(Event::Accepted(id));
    }

    fn add(&mut self) -> ConnectionId {
        self.next_id += 1;
        self.open.push((ConnectionId(self.next_id), BytesMut::new()));
        ConnectionId(self.next_id)
    }

    fn lost(&mut self) {
        if let Some((id, _)) = self.open.pop() {
            self.step(Event::Lost(id, "lost".to_owned()));
        }
    }

    fn toggle_drained(&mut self) {
        self.drained = !self.drained;
        self.step(Event::Drained(self.drained));
    }

    /// On the newest connection on which the peer listens.
    fn hear(&mut self, octets: &[u8]) {
        let Some((id, received)) = self.open.iter_mut().rev().find(|(id, _)| self.peer.listens_to(*id))
        else {
            return;
        };
        received.extend_from_slice(octets);
        let id = *id;
        while let Some((_, received)) = self.open.iter_mut().find(|(it, _)| *it == id) {
            let heard = match next_message(received) {
                Ok(None) => return,
                Ok(Some(message)) => heard(message, self.peer.four_octet_as()),
                Err(Misread::Answered(error)) => Received::Malformed(error),
                Err(error) => Received::MalformedNotification(error.to_string()),
            };
            let ends = matches!(heard, Received::Malformed(_) | Received::MalformedNotification(_));
            self.step(Event::Received(id, heard));
            if ends {
                assert!(self.open.iter().all(|(it, _)| *it != id), "it is closed after what cannot be read");
            }
        }
    }

    fn step(&mut self, event: Event) {
        let before = self.peer.is_established();
        let effects = self.peer.step(event.clone(), self.now, 0.5);
        let begun = effects.contains(&Effect::Established);
        let ended = effects.contains(&Effect::StateChanged(State::Idle));
        assert!(effects.len() < 40, "{effects:?}");
        assert_eq!(begun, self.peer.is_established() && (!before || ended), "{event:?}: {effects:?}");
        assert!(!before || self.peer.is_established() || ended, "{event:?}: {effects:?}");
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        self.check();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect => self.dialing = true,
            Effect::CancelConnect => self.dialing = false,
            Effect::Send(id, message) => {
                assert!(self.is_open(id), "{message:?} on a connection that is closed");
                sendable(&message);
            }
            Effect::Close(id) => {
                assert!(self.is_open(id), "closed twice");
                self.open.retain(|(it, _)| *it != id);
            }
            _ => {}
        }
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.open.iter().any(|(it, _)| *it == id)
    }

    fn check(&self) {
        let state = self.peer.fsm.state();
        let talks = matches!(state, State::OpenSent | State::OpenConfirm | State::Established);
        assert_eq!(talks, self.peer.connection().is_some(), "{:?}", self.peer);
        assert!(self.peer.connection().is_none_or(|id| self.is_open(id)), "{:?}", self.peer);
        assert!(self.open.len() <= 3, "none is left over: {:?}", self.peer);
        let may_rest = self.drained || matches!(state, State::OpenConfirm | State::Established);
        assert!(may_rest || self.peer.next_deadline().is_some(), "it waits for ever: {:?}", self.peer);
        if let Some(agreed) = self.peer.fsm.negotiated().filter(|_| state == State::Established) {
            assert_eq!((agreed.peer_asn, agreed.hold_time == 0 || agreed.hold_time >= 3), (65000, true));
        }
    }
}

fn heard(message: Message, four_octet_as: bool) -> Received {
    match message {
        Message::Open(open) => Received::Open(open),
        Message::Notification(notification) => Received::Notification(notification),
        Message::RouteRefresh(refresh) => Received::RouteRefresh(asks_for_ours(&refresh)),
        Message::Update(update) => match read_update(&update, Between { internal: false, four_octet_as }) {
            Ok(_) => Received::Update,
            Err(error) => Received::Malformed(error),
        },
        _ => Received::Keepalive,
    }
}

impl Config {
    /// Of a host in AS 65001 with a neighbour in AS 65000; its identifier is 192.0.2.9.
    pub(in crate::bgp) fn of_tests() -> Self {
        use rustbgpd_fsm::PeerConfig;

        use crate::bgp::wire::open::IPV6_UNICAST;
        let mut session = PeerConfig::new(65001, 65000, Ipv4Addr::new(192, 0, 2, 9));
        session.connect_retry_secs = 10;
        session.families = vec![IPV6_UNICAST];
        session.required_families = session.families.clone();
        session.graceful_restart = true;
        session.gr_restart_time = 120;
        let node = "h1".parse().expect("it is a node's name");
        Self { session, passive: false, max_prefixes: 3, node }
    }
}
