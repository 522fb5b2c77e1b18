//! The state machine of the current connection: what it is fed with, and what follows.

use rustbgpd_fsm::{Action, Event as FsmEvent, TimerType};

use super::{
    CONNECT_TIME, Effect, Fault, Peer, Received, State, Step,
    timers::{idle_hold, jittered, open_wait},
};
use crate::bgp::wire::{
    Message, NotificationCode, NotificationMessage, OpenMessage,
    notification::{again_after, describe},
    open::Restart,
};

impl Peer {
    pub(super) fn hear(&mut self, received: Received, step: &mut Step) {
        match received {
            Received::Open(open) => self.hear_open(open, step),
            Received::Keepalive => self.feed(FsmEvent::KeepaliveReceived, step),
            Received::Notification(notification) => {
                step.push(Effect::Notified { by_us: false });
                // Of two connections one is closed: that is no fault.
                if self.colliding.is_none() {
                    step.fault(Fault::EndedByNeighbour(describe(&notification)));
                    self.ceased.heard(again_after(&notification), self.established_at, step.now);
                }
                self.feed(FsmEvent::NotificationReceived(notification), step);
            }
            Received::Update => self.feed(FsmEvent::UpdateReceived, step),
            Received::RouteRefresh(ours) => {
                let (afi, safi) = crate::bgp::wire::open::IPV6_UNICAST;
                self.feed(FsmEvent::RouteRefreshReceived { afi, safi }, step);
                if ours && self.is_established() {
                    step.push(Effect::AnnounceAgain);
                }
            }
            Received::Malformed(error) => {
                step.fault(Fault::Malformed(error.to_string()));
                self.feed(FsmEvent::DecodeError(error), step);
            }
            Received::MalformedNotification(words) => {
                step.fault(Fault::Malformed(words));
                self.feed(FsmEvent::TcpConnectionFails, step);
            }
        }
    }

    fn hear_open(&mut self, open: OpenMessage, step: &mut Step) {
        let (theirs, configured) = (open.four_byte_as(), self.config.session.remote_asn);
        self.feed(FsmEvent::OpenReceived(open), step);
        if theirs != configured {
            step.fault(Fault::WrongAs { theirs, configured });
        }
    }

    pub(super) fn expired(&mut self, timer: TimerType, step: &mut Step) {
        self.timers.set(timer, None);
        let event = match timer {
            TimerType::Hold => {
                self.heard_nothing(step);
                FsmEvent::HoldTimerExpires
            }
            TimerType::Keepalive => FsmEvent::KeepaliveTimerExpires,
            _ => FsmEvent::ConnectRetryTimerExpires,
        };
        self.feed(event, step);
    }

    fn heard_nothing(&mut self, step: &mut Step) {
        let agreed = self.fsm.negotiated().map(|session| session.hold_time);
        match agreed {
            Some(secs) => step.fault(Fault::HoldTimeExpired(secs)),
            None => {
                // An OPEN that arrives long after it was given up, with the reason for that, would only end the session that
                // there is by then.
                if let Some(current) = self.current {
                    step.push(Effect::ResetUnlessAcknowledged(current.id));
                }
                step.fault(Fault::NoOpen);
            }
        }
    }

    pub(super) fn feed(&mut self, event: FsmEvent, step: &mut Step) {
        let before = self.fsm.state();
        // A malformed message and silence are reported already, and a drain is no fault.
        let reported = matches!(
            event,
            FsmEvent::DecodeError(_) | FsmEvent::HoldTimerExpires | FsmEvent::ManualStop { .. }
        );
        let actions = self.fsm.handle_event(event);
        let reason = actions.iter().find_map(|action| match action {
            Action::SendNotification(it) if !reported => Some(describe(&refined(it.clone(), before))),
            _ => None,
        });
        if let Some(reason) = reason {
            step.fault(Fault::EndedByUs(reason));
        }
        self.apply(actions, before, step);
    }

    /// `before` is the state in which the actions were decided.
    pub(super) fn apply(&mut self, actions: Vec<Action>, before: State, step: &mut Step) {
        for action in actions {
            match action {
                Action::SendOpen(open) => self.send(Message::Open(self.restart.amend(open)), step),
                Action::SendKeepalive => self.send(Message::Keepalive, step),
                Action::SendNotification(notification) => {
                    step.push(Effect::Notified { by_us: true });
                    self.send(Message::Notification(refined(notification, before)), step);
                }
                Action::StartTimer(timer, secs) => self.start_timer(timer, secs, step),
                Action::StopTimer(timer) => self.timers.set(timer, None),
                Action::InitiateTcpConnection if !self.config.passive => step.push(Effect::Connect),
                Action::CloseTcpConnection => self.close(step),
                Action::StateChanged { new, .. } => self.changed(new, step),
                Action::SessionEstablished(_) => self.established(step),
                _ => {}
            }
        }
    }

    fn send(&self, message: Message, step: &mut Step) {
        if let Some(current) = self.current {
            step.push(Effect::Send(current.id, message));
        }
    }

    fn start_timer(&mut self, timer: TimerType, secs: u32, step: &Step) {
        let wait = jittered(timer, secs, step.draw);
        let opening = timer == TimerType::Hold && self.fsm.negotiated().is_none();
        let wait = if opening { wait.min(open_wait(step.draw)) } else { wait };
        self.timers.set(timer, Some(step.now + wait));
    }

    fn close(&mut self, step: &mut Step) {
        step.push(Effect::CancelConnect);
        if let Some(current) = self.current.take() {
            step.push(Effect::Close(current.id));
        }
    }

    fn changed(&mut self, new: State, step: &mut Step) {
        step.push(Effect::StateChanged(new));
        self.no_session_at = match new {
            State::OpenSent => Some(step.now + CONNECT_TIME),
            State::OpenConfirm => self.no_session_at,
            _ => None,
        };
        if new == State::Idle {
            let hold = idle_hold(self.failures, step.draw).max(self.ceased.hold(step.draw));
            let start_at = step.now + hold;
            self.failures += 1;
            self.start_at = Some(self.bfd.held_until(start_at).unwrap_or(start_at));
        }
    }

    fn established(&mut self, step: &mut Step) {
        (self.failures, self.restart) = (0, Restart { restarted: false, preserved: true });
        self.established_at = Some(step.now);
        self.ceased.established();
        self.refuse_colliding(step);
        step.push(Effect::Established);
    }
}

/// RFC 6608: the state in which a message was unexpected.
pub(super) fn refined(mut notification: NotificationMessage, state: State) -> NotificationMessage {
    if notification.code == NotificationCode::FsmError && notification.subcode == 0 {
        notification.subcode = match state {
            State::OpenSent => 1,
            State::OpenConfirm => 2,
            State::Established => 3,
            State::Idle | State::Connect | State::Active => 0,
        };
    }
    notification
}
