//! A second connection, which the neighbour has opened while there is one already (RFC 4271 §6.8).
//!
//! It has an own state machine until the neighbour's OPEN comes on it: that has the identifier that decides which of both
//! stays. Where the first one was established for a while and restarts are graceful, the neighbour has restarted unnoticed, and
//! the second one stays (RFC 4724 §5).

use std::{net::Ipv4Addr, time::Duration};

use rustbgpd_fsm::{Action, Event as FsmEvent, Session};
use tokio::time::Instant;

use super::{
    CONNECT_TIME, ConnectionId, Current, Effect, Fault, Peer, Received, State, Step, timers::Timers,
};
use crate::bgp::wire::{
    Message, NotificationMessage, OpenMessage,
    notification::{answer, collision, describe, unexpected_before_open},
};

/// How long an OPEN on a second connection may take.
const OPEN_WAIT: Duration = Duration::from_secs(10);

/// A connection beside the current one.
#[derive(Debug)]
pub(super) struct Colliding {
    pub(super) id: ConnectionId,
    fsm: Session,
    /// What its state machine decided, for when it takes the place of the current one.
    owed: Vec<Action>,
    pub(super) until: Instant,
}

/// Which of two connections stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survivor {
    First,
    Second,
}

/// The state of the first connection when an OPEN comes on the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct First {
    established: bool,
    /// For longer than the making of a connection takes: the second one is of no collision.
    settled: bool,
    /// Both sides restart gracefully.
    graceful: bool,
    /// This end has opened it.
    dialed: bool,
}

/// A speaker's identifier, and where both have the same one, its AS (RFC 6286 §2.3).
type Speaker = (Ipv4Addr, u32);

/// The second connection is always the neighbour's.
fn survivor(first: First, own: Speaker, theirs: Speaker) -> Survivor {
    match first {
        First { established: true, settled, graceful, .. } if settled && graceful => Survivor::Second,
        First { established: true, .. } => Survivor::First,
        // The neighbour has given up the one before.
        First { dialed: false, .. } => Survivor::Second,
        _ if own > theirs => Survivor::First,
        _ => Survivor::Second,
    }
}

impl Peer {
    /// Of several connections that the neighbour opens, the newest one is the one that it knows of.
    pub(super) fn collide(&mut self, id: ConnectionId, step: &mut Step) {
        self.drop_colliding(step);
        let mut fsm = Session::new(self.config.session.clone());
        fsm.handle_event(FsmEvent::ManualStart);
        let mut owed = Vec::new();
        for action in fsm.handle_event(FsmEvent::TcpConnectionAcknowledged) {
            match action {
                Action::SendOpen(open) => {
                    step.push(Effect::Send(id, Message::Open(self.restart.amend(open))));
                }
                other => owed.push(other),
            }
        }
        self.colliding = Some(Colliding { id, fsm, owed, until: step.now + OPEN_WAIT });
    }

    pub(super) fn drop_colliding(&mut self, step: &mut Step) {
        if let Some(colliding) = self.colliding.take() {
            step.push(Effect::Close(colliding.id));
        }
    }

    /// A session is established: another connection of before is one too many.
    pub(super) fn refuse_colliding(&mut self, step: &mut Step) {
        self.end_colliding(collision(), step);
    }

    fn end_colliding(&mut self, reason: NotificationMessage, step: &mut Step) {
        if let Some(colliding) = self.colliding.take() {
            end(colliding.id, reason, step);
        }
    }

    pub(super) fn hear_colliding(&mut self, received: Received, step: &mut Step) {
        match received {
            Received::Open(open) => self.resolve(open, step),
            Received::Notification(_) | Received::MalformedNotification(_) => self.drop_colliding(step),
            Received::Malformed(error) => {
                step.fault(Fault::MalformedOnSecond(error.to_string()));
                self.end_colliding(answer(&error), step);
            }
            Received::Keepalive | Received::Update | Received::RouteRefresh(_) => {
                step.fault(Fault::NoOpenOnSecond);
                self.end_colliding(unexpected_before_open(), step);
            }
        }
    }

    fn resolve(&mut self, open: OpenMessage, step: &mut Step) {
        let Some(mut second) = self.colliding.take() else { return };
        let theirs = (open.bgp_identifier, open.four_byte_as());
        let mut actions = second.fsm.handle_event(FsmEvent::OpenReceived(open));
        let refusal = actions.iter().find_map(|action| match action {
            Action::SendNotification(notification) => Some(notification.clone()),
            _ => None,
        });
        if let Some(refusal) = refusal {
            step.fault(Fault::SecondRefused(describe(&refusal)));
            return end(second.id, refusal, step);
        }
        let own = (self.config.session.local_router_id, self.config.session.local_asn);
        match survivor(self.first(step.now), own, theirs) {
            Survivor::First => end(second.id, collision(), step),
            Survivor::Second => {
                self.end_first(step);
                second.owed.append(&mut actions);
                self.install(second, step);
            }
        }
    }

    fn first(&self, now: Instant) -> First {
        let negotiated = self.fsm.negotiated().is_some_and(|it| it.peer_gr_capable);
        First {
            established: self.is_established(),
            settled: self.established_at.is_some_and(|at| now - at > CONNECT_TIME),
            graceful: negotiated && self.config.session.graceful_restart,
            dialed: self.current.is_some_and(|current| current.dialed),
        }
    }

    fn end_first(&mut self, step: &mut Step) {
        if let Some(first) = self.current.take() {
            // After a restart nobody is there to hear it, and the routes are to stay.
            if self.is_established() {
                step.push(Effect::Close(first.id));
            } else {
                end(first.id, collision(), step);
            }
        }
        self.feed(FsmEvent::TcpConnectionFails, step);
    }

    /// The second connection takes the place of the first one, once that is gone.
    pub(super) fn promote_colliding(&mut self, step: &mut Step) {
        if self.current.is_none()
            && let Some(second) = self.colliding.take()
        {
            self.install(second, step);
        }
    }

    fn install(&mut self, second: Colliding, step: &mut Step) {
        step.push(Effect::CancelConnect);
        (self.start_at, self.timers) = (None, Timers::default());
        (self.fsm, self.current) = (second.fsm, Some(Current { id: second.id, dialed: false }));
        let state: State = self.fsm.state();
        self.apply(second.owed, state, step);
    }
}

/// Closes a connection with a reason.
fn end(id: ConnectionId, reason: NotificationMessage, step: &mut Step) {
    step.push(Effect::Send(id, Message::Notification(reason)));
    step.push(Effect::Close(id));
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
        // Both sides come to the same: the one that one end keeps as its own is the one that the other takes.
        assert_ne!(survivor(opening, high, low), survivor(opening, low, high));
    }
}
