//! One BGP peer (RFC 4271 §8): when to connect, which of two connections stays, when a session ends and the next one begins.
//!
//! Pure: no clock, socket, channel or log. [`Peer::step`] takes an [`Event`] and the time, and returns [`Effect`]s, which the
//! neighbour's task carries out in their order. The only folder that names `rustbgpd_fsm`, whose state machine has one
//! connection; a second one, which the neighbour has opened meanwhile, has a state machine of its own until one of both is
//! closed ([`collision`]).

mod bfd;
mod ceased;
mod collision;
mod config;
mod fault;
#[cfg(any(test, feature = "fake"))]
pub(super) mod fuzzing;
mod session;
mod timers;

use std::time::Duration;

use rustbgpd_fsm::{Event as FsmEvent, Session, TimerType};
use tokio::time::Instant;

use super::wire::{DecodeError, Message, NotificationMessage, OpenMessage, notification, open::Restart};
use crate::bfd::Health;
use bfd::{BfdHold, Verdict};
use ceased::Ceased;
use collision::Colliding;
use timers::Timers;

pub(super) use config::Config;
pub(super) use fault::Fault;
pub(super) use rustbgpd_fsm::SessionState as State;

/// The longest time that the making of a connection, and then of a session, should take.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a neighbour that announces too many prefixes is left alone.
const TOO_MANY_PREFIXES_HOLD: Duration = Duration::from_secs(60);

/// One TCP connection, numbered by the neighbour's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionId(pub(super) u32);

/// What happens to a peer.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The time of [`Peer::next_deadline`] has come.
    Due,
    /// The connection of [`Effect::Connect`] is made.
    Connected(ConnectionId),
    /// It cannot be made, for this reason.
    ConnectFailed(String),
    /// The neighbour has opened a connection.
    Accepted(ConnectionId),
    /// A connection has ended or broken, for this reason.
    Lost(ConnectionId, String),
    /// A message came.
    Received(ConnectionId, Received),
    /// BFD's report of the path.
    Bfd(Health),
    /// The neighbour was found at another address.
    Moved,
    /// Whether this host is drained.
    Drained(bool),
    /// The neighbour announces more prefixes than it may.
    TooManyPrefixes,
}

/// A message, as far as the session depends on it.
#[derive(Debug, Clone)]
pub(super) enum Received {
    /// OPEN.
    Open(OpenMessage),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(NotificationMessage),
    /// An UPDATE that leaves the session as it is.
    Update,
    /// ROUTE-REFRESH; whether it asks for what this speaker announces.
    RouteRefresh(bool),
    /// A message that ends the session.
    Malformed(DecodeError),
    /// A malformed NOTIFICATION, which is not answered (RFC 4271 §6.4), in words.
    MalformedNotification(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Connect to the neighbour; an attempt that is under way ends.
    Connect,
    /// End an attempt to connect.
    CancelConnect,
    /// Send this.
    Send(ConnectionId, Message),
    /// Have the connection end with a reset, unless all that was sent is acknowledged.
    ResetUnlessAcknowledged(ConnectionId),
    /// Close the connection.
    Close(ConnectionId),
    /// The state has changed. After `Idle` the neighbour knows nothing of what was announced.
    StateChanged(State),
    /// The session is established: announce everything.
    Established,
    /// Announce everything again.
    AnnounceAgain,
    /// A NOTIFICATION was sent or received, to be counted.
    Notified {
        /// By this end.
        by_us: bool,
    },
    /// No session begins until the host is no longer drained.
    ShutDown,
    /// Report this.
    Fault(Fault),
}

/// The connection of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Current {
    id: ConnectionId,
    /// This end has opened it.
    dialed: bool,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    Timer(TimerType),
    /// Report that a connection has not become a session.
    NoSession,
    /// The end of the idle hold.
    Start,
    /// The end of the wait for an OPEN on a second connection.
    Colliding,
}

/// One step: its time, its random number from 0 to 1, and its effects.
struct Step {
    now: Instant,
    draw: f64,
    effects: Vec<Effect>,
}

impl Step {
    fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn fault(&mut self, fault: Fault) {
        self.push(Effect::Fault(fault));
    }
}

/// The state of a peer.
#[derive(Debug)]
pub(super) struct Peer {
    config: Config,
    restart: Restart,
    fsm: Session,
    current: Option<Current>,
    colliding: Option<Colliding>,
    /// A connection that the neighbour has opened over a path that has failed.
    parked: Option<ConnectionId>,
    timers: Timers,
    established_at: Option<Instant>,
    no_session_at: Option<Instant>,
    /// The end of the idle hold; `None` while a session is made, is established, or may not begin.
    start_at: Option<Instant>,
    /// Sessions in a row that failed before they were established.
    failures: u32,
    ceased: Ceased,
    bfd: BfdHold,
    drained: bool,
}

impl Peer {
    /// A peer that is idle, and starts at `now`. BFD has reported so many failures of the path before.
    pub(super) fn new(config: Config, restart: Restart, bfd_failures: u64, now: Instant) -> Self {
        Self {
            fsm: Session::new(config.session.clone()),
            config,
            restart,
            current: None,
            colliding: None,
            parked: None,
            timers: Timers::default(),
            established_at: None,
            no_session_at: None,
            start_at: Some(now),
            failures: 0,
            ceased: Ceased::default(),
            bfd: BfdHold::new(bfd_failures),
            drained: false,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.fsm.state() == State::Established
    }

    /// The connection of the session, or of the one that is being made.
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        self.current.map(|current| current.id)
    }

    /// Whether messages on this connection count. Those on a connection that waits for BFD are left where they are.
    pub(super) fn listens_to(&self, id: ConnectionId) -> bool {
        self.connection() == Some(id) || self.colliding.as_ref().is_some_and(|it| it.id == id)
    }

    /// Whether AS numbers have four octets in this session.
    pub(super) fn four_octet_as(&self) -> bool {
        self.fsm.negotiated().is_none_or(|session| session.four_octet_as)
    }

    /// When [`Event::Due`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.first_deadline().map(|(at, _)| at)
    }

    fn first_deadline(&self) -> Option<(Instant, Deadline)> {
        let timer = self.timers.next().map(|(at, timer)| (at, Deadline::Timer(timer)));
        let no_session = self.no_session_at.map(|at| (at, Deadline::NoSession));
        let start = self.start_at.map(|at| (at, Deadline::Start));
        let colliding = self.colliding.as_ref().map(|it| (it.until, Deadline::Colliding));
        [timer, no_session, start, colliding].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What follows from `event` at `now`; `draw` is a random number from 0 to 1, which spreads timers.
    pub(super) fn step(&mut self, event: Event, now: Instant, draw: f64) -> Vec<Effect> {
        let mut step = Step { now, draw, effects: Vec::new() };
        self.take(event, &mut step);
        self.promote_colliding(&mut step);
        step.effects
    }

    fn take(&mut self, event: Event, step: &mut Step) {
        match event {
            Event::Due => self.due(step),
            Event::Connected(id) => self.connected(id, true, step),
            Event::ConnectFailed(error) => self.failed(error, step),
            Event::Accepted(id) => self.accepted(id, step),
            Event::Lost(id, error) => self.lost(id, error, step),
            Event::Received(id, received) => self.received(id, received, step),
            Event::Bfd(health) => self.path_judged(health, step),
            Event::Moved => self.moved(step),
            Event::Drained(true) if !self.drained => self.shut_down(step),
            Event::Drained(false) if self.drained => {
                (self.drained, self.failures, self.start_at) = (false, 0, Some(step.now));
            }
            Event::Drained(_) => {}
            Event::TooManyPrefixes => self.too_many_prefixes(step),
        }
    }

    /// The first deadline that has passed.
    fn due(&mut self, step: &mut Step) {
        match self.first_deadline().filter(|(at, _)| *at <= step.now) {
            Some((_, Deadline::Timer(timer))) => self.expired(timer, step),
            Some((_, Deadline::NoSession)) => {
                self.no_session_at = None;
                step.fault(Fault::NoSession);
            }
            Some((_, Deadline::Start)) => self.start(step),
            Some((_, Deadline::Colliding)) => self.drop_colliding(step),
            None => {}
        }
    }

    fn start(&mut self, step: &mut Step) {
        self.start_at = None;
        self.feed(FsmEvent::ManualStart, step);
        if let Some(id) = self.parked.take() {
            self.accepted(id, step);
        }
    }

    fn connected(&mut self, id: ConnectionId, dialed: bool, step: &mut Step) {
        if self.current.is_some() || !self.is_connecting() {
            return step.push(Effect::Close(id));
        }
        step.push(Effect::CancelConnect);
        self.current = Some(Current { id, dialed });
        let event =
            if dialed { FsmEvent::TcpConnectionConfirmed } else { FsmEvent::TcpConnectionAcknowledged };
        self.feed(event, step);
    }

    fn is_connecting(&self) -> bool {
        matches!(self.fsm.state(), State::Connect | State::Active)
    }

    fn accepted(&mut self, id: ConnectionId, step: &mut Step) {
        if self.drained {
            step.push(Effect::Close(id));
        } else if self.bfd.held_until(step.now).is_some() {
            self.park(Some(id), step);
        } else if self.current.is_some() {
            self.collide(id, step);
        } else {
            if self.fsm.state() == State::Idle {
                self.start_at = None;
                self.feed(FsmEvent::ManualStart, step);
            }
            self.connected(id, false, step);
        }
    }

    /// Has this connection wait, and closes the one that has waited until now.
    fn park(&mut self, id: Option<ConnectionId>, step: &mut Step) {
        if let Some(before) = std::mem::replace(&mut self.parked, id) {
            step.push(Effect::Close(before));
        }
    }

    fn lost(&mut self, id: ConnectionId, error: String, step: &mut Step) {
        self.parked = self.parked.filter(|it| *it != id);
        if self.connection() == Some(id) {
            self.current = None;
            self.failed(error, step);
        } else if self.colliding.as_ref().is_some_and(|it| it.id == id) {
            self.colliding = None;
        }
    }

    fn failed(&mut self, error: String, step: &mut Step) {
        step.fault(Fault::Connection(error));
        self.feed(FsmEvent::TcpConnectionFails, step);
    }

    fn received(&mut self, id: ConnectionId, received: Received, step: &mut Step) {
        if self.connection() == Some(id) {
            self.hear(received, step);
        } else if self.colliding.as_ref().is_some_and(|it| it.id == id) {
            self.hear_colliding(received, step);
        }
    }

    /// A session over a path that has failed ends, and none begins until it works again or the hold time is over.
    fn path_judged(&mut self, health: Health, step: &mut Step) {
        let until = step.now + self.config.hold_time();
        match self.bfd.judge(health, until) {
            Verdict::Failed => {
                step.fault(Fault::PathFailed);
                self.drop_colliding(step);
                self.start_at = self.start_at.map(|_| until);
                self.feed(FsmEvent::BfdDown, step);
            }
            Verdict::Recovered => self.start_at = self.start_at.map(|_| step.now),
            Verdict::Unchanged => {}
        }
    }

    /// An attempt to connect to another address is of no use.
    fn moved(&mut self, step: &mut Step) {
        if self.current.is_none() && self.is_connecting() {
            self.feed(FsmEvent::ConnectRetryTimerExpires, step);
        }
    }

    /// RFC 4486 §4, RFC 9003: a drained host ends its session, and begins none, whoever opens a connection. All that it
    /// announced was withdrawn before, so that the neighbour loses nothing by it.
    fn shut_down(&mut self, step: &mut Step) {
        self.drop_colliding(step);
        let reason = notification::shutdown_communication(&format!("node {} is drained", self.config.node));
        self.feed(FsmEvent::ManualStop { reason: Some(reason) }, step);
        (self.drained, self.start_at) = (true, None);
        self.park(None, step);
        step.push(Effect::ShutDown);
    }

    /// RFC 4486 §4. What was received until now stays, as of any neighbour whose session is over.
    fn too_many_prefixes(&mut self, step: &mut Step) {
        if !self.is_established() {
            return;
        }
        self.feed(FsmEvent::UpdateValidationError(notification::too_many_prefixes()), step);
        step.fault(Fault::TooManyPrefixes(self.config.max_prefixes));
        self.start_at = Some(step.now + TOO_MANY_PREFIXES_HOLD);
    }
}

#[cfg(test)]
mod tests;
