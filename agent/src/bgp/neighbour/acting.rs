//! Carries out what the state machine says.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use rand::Rng;
use rustbgpd_fsm::{Action, Event, SessionState, TimerType};
use rustbgpd_wire::{Message, encode_message};
use tokio::time::Instant;

use super::Neighbour;
use crate::bgp::{
    peer::timers::{MAX_RETRY, jittered, open_patience},
    sockets,
    status::words,
    wire::decode::refined,
};

impl Neighbour {
    pub(super) async fn feed(&mut self, event: Event) {
        let before = self.fsm.state();
        // Where octets or silence are the reason, it is told already; and that the host is drained is no error.
        let told =
            matches!(event, Event::DecodeError(_) | Event::HoldTimerExpires | Event::ManualStop { .. });
        let actions = self.fsm.handle_event(event);
        let reason = actions.iter().find_map(|action| match action {
            Action::SendNotification(it) if !told => Some(words(&refined(it.clone(), before))),
            _ => None,
        });
        if let Some(reason) = reason {
            self.status.error(format!("we ended the session: {reason}"));
        }
        self.carry_out_all(actions, before).await;
    }

    pub(super) async fn carry_out_all(&mut self, actions: Vec<Action>, before: SessionState) {
        let mut broken = None;
        for action in actions {
            let action = match action {
                Action::SendNotification(it) => Action::SendNotification(refined(it, before)),
                other => other,
            };
            if let Err(error) = self.carry_out(action).await {
                broken = Some(error);
            }
        }
        if let Some(error) = broken.filter(|_| self.connection.is_some()) {
            self.status.error(error.to_string());
            self.connection = None;
            Box::pin(self.feed(Event::TcpConnectionFails)).await;
        }
    }

    pub(super) async fn carry_out(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::SendOpen(open) => self.send(&Message::Open(self.restart.amend(open))).await,
            Action::SendKeepalive => self.send(&Message::Keepalive).await,
            Action::SendNotification(notification) => {
                self.status.notified(true);
                self.send(&Message::Notification(notification)).await
            }
            Action::StartTimer(timer, secs) => {
                let due = jittered(timer, secs);
                let opening = timer == TimerType::Hold && self.fsm.negotiated().is_none();
                let due = if opening { due.min(open_patience()) } else { due };
                self.timers.set(timer, Some(Instant::now() + due));
                Ok(())
            }
            Action::StopTimer(timer) => {
                self.timers.set(timer, None);
                Ok(())
            }
            Action::InitiateTcpConnection => {
                self.dial();
                Ok(())
            }
            Action::CloseTcpConnection => {
                (self.connection, self.dialing) = (None, None.into());
                Ok(())
            }
            Action::StateChanged { new, .. } => {
                self.changed(new);
                Ok(())
            }
            Action::SessionEstablished(negotiated) => {
                self.four_octet_as = negotiated.four_octet_as;
                self.established().await
            }
            _ => Ok(()),
        }
    }

    pub(super) fn dial(&mut self) {
        if !self.settings.passive {
            let settings = self.settings.clone();
            let dial: BoxFuture<'static, _> = Box::pin(async move { sockets::connect(&settings).await });
            self.dialing = Some(dial).into();
        }
    }

    pub(super) fn changed(&mut self, new: SessionState) {
        self.status.state(new);
        self.due_at = match new {
            SessionState::OpenSent => Some(Instant::now() + sockets::CONNECT_TIMEOUT),
            SessionState::OpenConfirm => self.due_at,
            _ => None,
        };
        if new == SessionState::Idle {
            self.told.clear();
            if let Some(learner) = &self.learner {
                learner.down();
            }
            let delay = Duration::from_secs(1 << self.failures.min(4)).min(MAX_RETRY);
            self.failures += 1;
            let start_at = Instant::now() + delay.mul_f64(rand::rng().random_range(0.75..=1.0));
            let held = self.watched.as_ref().and_then(|watched| watched.held_until(start_at));
            self.start_at = Some(held.unwrap_or(start_at));
        }
    }

    pub(super) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let encoded: Bytes = encode_message(message).map_err(io::Error::other)?.freeze();
        self.write(&encoded).await
    }

    pub(super) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let patience = Duration::from_secs(self.settings.hold_time.into());
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.write(octets, patience).await
    }
}
