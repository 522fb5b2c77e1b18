//! One BFD session: asynchronous mode, no echo, no demand of our own, no authentication (RFC 5880 §6). Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::packet::{Diagnostic, Packet, State};
use crate::settings::Timing;

/// A session that is not up sends no more often (RFC 5880 §6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A packet of the neighbour came, for this session.
    Received(Packet),
    /// What [`Session::due`] says.
    Due,
    /// This end goes down on purpose.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Send this.
    Send(Packet),
    /// Tell who depends on the session.
    Changed {
        /// The state now.
        to: State,
        /// The way to the neighbour has failed: it was up, and neither end took it down on purpose (RFC 5882 §3.2).
        failed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    discriminator: u32,
    state: State,
    demand: bool,
    min_rx: Duration,
    min_tx: Duration,
    multiplier: u8,
}

/// The neighbour of which nothing is known (RFC 5880 §6.8.1).
const UNKNOWN: Remote = Remote {
    discriminator: 0,
    state: State::Down,
    demand: false,
    min_rx: Duration::from_micros(1),
    min_tx: SLOW,
    multiplier: 0,
};

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    timing: Timing,
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// The neighbour is to confirm our new interval.
    polling: bool,
    send_at: Instant,
    /// When the neighbour counts as gone; `None` while nothing is expected of it.
    gone_at: Option<Instant>,
}

impl Session {
    /// A session that is down, with our number for it, which is not 0.
    pub fn new(timing: Timing, discriminator: u32, now: Instant) -> Self {
        Self {
            timing,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote: UNKNOWN,
            polling: false,
            send_at: now,
            gone_at: None,
        }
    }

    /// Our number for it.
    pub fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// When there is something to do.
    pub fn due(&self) -> Instant {
        self.gone_at.map_or(self.send_at, |gone_at| gone_at.min(self.send_at))
    }

    /// Goes on. `draw` is a random number of 0 to 1, for the jitter.
    #[must_use]
    pub fn step(mut self, event: Event, now: Instant, draw: f64) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        match event {
            Event::Received(packet) => self.received(&packet, now, draw, &mut effects),
            Event::Due => self.on_time(now, draw, &mut effects),
            Event::Stop => {
                self.diagnostic = Diagnostic::AdminDown;
                self.change(State::AdminDown, now, draw, &mut effects);
            }
        }
        (self, effects)
    }

    /// RFC 5880 §6.8.6, from where the packet is known to be for this session.
    fn received(&mut self, packet: &Packet, now: Instant, draw: f64, effects: &mut Vec<Effect>) {
        self.remote = Remote {
            discriminator: packet.mine,
            state: packet.state,
            demand: packet.demand,
            min_rx: packet.min_rx,
            min_tx: packet.min_tx,
            multiplier: packet.multiplier,
        };
        if self.state == State::AdminDown {
            return;
        }
        self.polling &= !packet.finished;
        self.gone_at = Some(now + self.detection_time());
        let next = match (self.state, packet.state) {
            (State::Down, State::Down) => State::Init,
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => State::Up,
            (State::Up, State::Down) | (State::Init | State::Up, State::AdminDown) => State::Down,
            (as_it_is, _) => as_it_is,
        };
        if next == State::Down && self.state != State::Down {
            self.diagnostic = Diagnostic::NeighbourDown;
        }
        self.change(next, now, draw, effects);
        if packet.poll {
            effects.push(Effect::Send(Packet { poll: false, finished: true, ..self.packet() }));
        }
        // What the neighbour takes more often now, it gets at once.
        self.send_at = self.send_at.min(now + self.jittered(draw));
    }

    fn on_time(&mut self, now: Instant, draw: f64, effects: &mut Vec<Effect>) {
        if self.gone_at.is_some_and(|gone_at| gone_at <= now) {
            self.gone_at = None;
            self.remote.discriminator = 0;
            self.remote.state = State::Down;
            if matches!(self.state, State::Init | State::Up) {
                self.diagnostic = Diagnostic::TimeExpired;
                self.change(State::Down, now, draw, effects);
            }
        }
        if self.send_at <= now {
            self.send(now, draw, effects);
        }
    }

    fn change(&mut self, to: State, now: Instant, draw: f64, effects: &mut Vec<Effect>) {
        if to == self.state {
            return;
        }
        let failed = self.state == State::Up && to == State::Down && self.remote.state != State::AdminDown;
        self.state = to;
        // Our interval changes with it, which the neighbour is to confirm (§6.8.3).
        self.polling = to == State::Up && self.timing.interval < SLOW;
        if to == State::Up {
            self.diagnostic = Diagnostic::None;
        }
        effects.push(Effect::Changed { to, failed });
        // The neighbour learns of it at once (§6.8.7).
        self.send(now, draw, effects);
    }

    fn send(&mut self, now: Instant, draw: f64, effects: &mut Vec<Effect>) {
        self.send_at = now + self.jittered(draw);
        let both_up = self.state == State::Up && self.remote.state == State::Up;
        let unwanted = self.remote.min_rx.is_zero() || (self.remote.demand && both_up && !self.polling);
        if !unwanted {
            effects.push(Effect::Send(self.packet()));
        }
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic as u8,
            state: self.state,
            poll: self.polling,
            finished: false,
            demand: false,
            multiplier: self.timing.multiplier,
            mine: self.discriminator,
            yours: self.remote.discriminator,
            min_tx: self.min_tx(),
            min_rx: self.timing.interval,
        }
    }

    fn min_tx(&self) -> Duration {
        if self.state == State::Up { self.timing.interval } else { self.timing.interval.max(SLOW) }
    }

    /// RFC 5880 §6.8.4.
    fn detection_time(&self) -> Duration {
        self.timing.interval.max(self.remote.min_tx) * self.remote.multiplier.into()
    }

    /// Until the next packet: up to a quarter less than agreed, and never all of it where none may be lost (§6.8.7).
    fn jittered(&self, draw: f64) -> Duration {
        let span = if self.timing.multiplier == 1 { 0.15 } else { 0.25 };
        self.min_tx().max(self.remote.min_rx).mul_f64(0.75 + span * draw.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
