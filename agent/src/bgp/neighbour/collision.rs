//! A second connection, which the neighbour has opened while there is one already (RFC 4271 §6.8).
//!
//! It is spoken on until the neighbour's OPEN has come: that says by whose identifier one of both survives. Where the first
//! one stood for a while and restarts are graceful, the neighbour has restarted unnoticed, and the second survives
//! (RFC 4724 §5).

use std::{io, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use rustbgpd_fsm::{Action, Event, PeerConfig, Session, SessionState};
use rustbgpd_wire::{
    Message, NotificationCode, NotificationMessage, OpenMessage, encode_message, notification::cease_subcode,
};
use tokio::{net::TcpStream, time::Instant};

use super::Neighbour;
use crate::bgp::{
    peer::open::Restart,
    peer::timers::Timers,
    sockets,
    sockets::connection::{self, Connection},
    status::words,
    wire::decode::Misread,
};

/// How long a second connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection beside the first one.
pub(in crate::bgp) struct Rival {
    fsm: Session,
    connection: Connection,
    /// What its state machine said, for when it takes the first one's place.
    owed: Vec<Action>,
    until: Instant,
}

/// Which of two connections goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survivor {
    First,
    Second,
}

/// What the first connection is when the second has an OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct First {
    established: bool,
    /// For longer than the making of a connection takes: the second one is of no collision.
    settled: bool,
    /// Both sides restart gracefully.
    graceful: bool,
    /// We have opened it.
    dialed: bool,
}

/// Who opened a connection: the identifier, and where both have one, the AS (RFC 6286 §2.3).
type Opener = (Ipv4Addr, u32);

/// Pure. The second one is always the neighbour's.
fn survivor(first: First, own: Opener, theirs: Opener) -> Survivor {
    match first {
        First { established: true, settled, graceful, .. } if settled && graceful => Survivor::Second,
        First { established: true, .. } => Survivor::First,
        // It knows nothing of the one before.
        First { dialed: false, .. } => Survivor::Second,
        _ if own > theirs => Survivor::First,
        _ => Survivor::Second,
    }
}

impl Rival {
    async fn open(stream: TcpStream, config: PeerConfig, restart: Restart) -> io::Result<Self> {
        let (mut fsm, mut connection) = (Session::new(config), Connection::new(stream));
        fsm.handle_event(Event::ManualStart);
        let mut owed = Vec::new();
        for action in fsm.handle_event(Event::TcpConnectionAcknowledged) {
            match action {
                Action::SendOpen(open) => say(&mut connection, &Message::Open(restart.amend(open))).await?,
                other => owed.push(other),
            }
        }
        Ok(Self { fsm, connection, owed, until: Instant::now() + PATIENCE })
    }

    /// Ends it, and says why.
    async fn end(mut self, notification: NotificationMessage) {
        let said = say(&mut self.connection, &Message::Notification(notification)).await;
        if let Err(error) = said {
            tracing::debug!(%error, "a second connection ended by itself");
        }
    }
}

async fn say(connection: &mut Connection, message: &Message) -> io::Result<()> {
    let octets: Bytes = encode_message(message).map_err(io::Error::other)?.freeze();
    connection.write(&octets, PATIENCE).await
}

fn collision() -> NotificationMessage {
    let subcode = cease_subcode::CONNECTION_COLLISION_RESOLUTION;
    NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new())
}

/// As [`connection::read`], for as long as there is patience. Cancel safe.
pub(super) async fn read(rival: &mut Option<Box<Rival>>) -> io::Result<usize> {
    match rival {
        Some(rival) => {
            let Rival { connection, until, .. } = rival.as_mut();
            let read = tokio::time::timeout_at(*until, connection::read_from(connection)).await;
            read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        None => std::future::pending().await,
    }
}

impl Neighbour {
    pub(super) async fn incoming(&mut self, stream: TcpStream) {
        self.find(&stream);
        if let Err(error) = sockets::accept(&stream, &self.settings) {
            self.status.error(error.to_string());
        } else if self.is_held() {
            self.parked = Some(stream);
        } else if self.connection.is_none() {
            self.take_incoming(stream).await;
        } else {
            // The newest one is the one that the neighbour knows of.
            let rival = Rival::open(stream, self.config.clone(), self.restart).await;
            self.rival = rival.ok().map(Box::new);
        }
    }

    async fn take_incoming(&mut self, stream: TcpStream) {
        if self.fsm.state() == SessionState::Idle {
            self.start_at = None;
            self.feed(Event::ManualStart).await;
        }
        self.connected(stream, Event::TcpConnectionAcknowledged).await;
    }

    pub(super) async fn rival_was_read(&mut self, read: io::Result<usize>) {
        let Some(mut rival) = self.rival.take() else { return };
        if !matches!(read, Ok(1..)) {
            return;
        }
        match rival.connection.next_message() {
            Ok(None) => self.rival = Some(rival),
            Ok(Some(Message::Open(open))) => self.decide(*rival, open).await,
            Ok(Some(Message::Notification(_))) | Err(Misread::Notification(_)) => {}
            Ok(Some(_)) => {
                self.status.error("it sent no OPEN first, on a second connection".into());
                rival.end(NotificationMessage::new(NotificationCode::FsmError, 1, Bytes::new())).await;
            }
            Err(Misread::Answered(error)) => {
                self.status.error(format!("it sent what cannot be read, on a second connection: {error}"));
                let (code, subcode, data) = error.to_notification();
                rival.end(NotificationMessage::new(code, subcode, data)).await;
            }
        }
    }

    async fn decide(&mut self, mut rival: Rival, open: OpenMessage) {
        let theirs = (open.bgp_identifier, open.four_byte_as());
        let mut actions = rival.fsm.handle_event(Event::OpenReceived(open));
        let refusal = actions.iter().find_map(|action| match action {
            Action::SendNotification(notification) => Some(notification.clone()),
            _ => None,
        });
        if let Some(refusal) = refusal {
            self.status.error(format!("we refused its second connection: {}", words(&refusal)));
            return rival.end(refusal).await;
        }
        let own = (self.config.local_router_id, self.config.local_asn);
        let outcome = survivor(self.first(), own, theirs);
        tracing::debug!(neighbour = %self.settings.address, ?outcome, "two BGP connections");
        match outcome {
            Survivor::First => rival.end(collision()).await,
            Survivor::Second => {
                self.end_first().await;
                rival.owed.append(&mut actions);
                self.install(rival).await;
            }
        }
    }

    fn first(&self) -> First {
        let established = self.fsm.state() == SessionState::Established;
        let negotiated = self.fsm.negotiated().is_some_and(|it| it.peer_gr_capable);
        First {
            established,
            settled: self.established_at.is_some_and(|at| at.elapsed() > sockets::CONNECT_TIMEOUT),
            graceful: negotiated && self.config.graceful_restart,
            dialed: self.dialed,
        }
    }

    async fn end_first(&mut self) {
        // After a restart nobody is there to hear it, and the routes are to stay.
        if self.fsm.state() != SessionState::Established
            && let Err(error) = self.send(&Message::Notification(collision())).await
        {
            tracing::debug!(%error, "the first connection ended by itself");
        }
        self.connection = None;
        self.feed(Event::TcpConnectionFails).await;
    }

    /// A second connection takes the place of the first one, once that is gone.
    pub(super) async fn take_rival(&mut self) {
        if self.connection.is_none()
            && let Some(rival) = self.rival.take()
        {
            self.install(*rival).await;
        }
    }

    async fn install(&mut self, rival: Rival) {
        (self.dialing, self.start_at, self.timers) = (None.into(), None, Timers::default());
        (self.fsm, self.connection, self.dialed) = (rival.fsm, Some(rival.connection), false);
        let state = self.fsm.state();
        self.carry_out_all(rival.owed, state).await;
        self.messages().await;
    }

    /// A session stands: another connection of before is one too many.
    pub(super) async fn refuse_rival(&mut self) {
        self.established_at = Some(Instant::now());
        if let Some(rival) = self.rival.take() {
            rival.end(collision()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_connections_survives() {
        let [low, high] = [1, 2].map(|n| (Ipv4Addr::new(192, 0, 2, n), 65000));
        let opening = First { established: false, settled: false, graceful: true, dialed: true };
        let accepted = First { dialed: false, ..opening };
        let fresh = First { established: true, ..opening };
        let old = First { settled: true, ..fresh };
        let rows = [
            ("ours, and our identifier is higher", opening, high, low, Survivor::First),
            ("ours, and theirs is higher", opening, low, high, Survivor::Second),
            ("ours, same identifier, our AS is higher", opening, (low.0, 65001), low, Survivor::First),
            ("ours, same identifier, their AS is higher", opening, low, (low.0, 65001), Survivor::Second),
            ("both are the neighbour's", accepted, high, low, Survivor::Second),
            ("established just now, in a collision", fresh, low, high, Survivor::First),
            ("established long ago: a restart", old, high, low, Survivor::Second),
            (
                "the same without graceful restart",
                First { graceful: false, ..old },
                low,
                high,
                Survivor::First,
            ),
        ];
        for (what, first, own, theirs, expected) in rows {
            assert_eq!(survivor(first, own, theirs), expected, "{what}");
        }
        // Both sides come to the same: what one keeps as its own is what the other takes.
        assert_ne!(survivor(opening, high, low), survivor(opening, low, high));
    }
}
