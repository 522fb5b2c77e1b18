//! Carries out what the peer decides.

use std::{collections::VecDeque, io, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Neighbour, source};
use crate::bgp::{
    peer::{ConnectionId, Effect, Event, Fault, State},
    sockets,
    wire::encode,
};

impl Neighbour {
    /// Has the peer decide, and carries that out. A connection that breaks meanwhile is an event of its own, after the effects.
    pub(super) async fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.peer.step(event, Instant::now(), rand::random());
            for effect in effects {
                if let Some(lost) = self.carry_out(effect).await {
                    events.push_back(lost);
                }
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Connect => self.dial(),
            Effect::CancelConnect => self.dialing = None.into(),
            Effect::Send(id, message) => {
                let octets = encode::message(&message).map_err(io::Error::other);
                return match octets {
                    Ok(octets) => self.write(id, &octets).await,
                    Err(error) => self.broken(id, &error),
                };
            }
            Effect::ResetUnlessAcknowledged(id) => {
                if let Some(connection) = self.connections.iter().find(|it| it.id() == id) {
                    connection.reset_unless_acknowledged();
                }
            }
            Effect::Close(id) => self.connections.retain(|it| it.id() != id),
            Effect::StateChanged(state) => self.state_changed(state).await,
            Effect::Established => return self.established().await,
            Effect::AnnounceAgain => {
                self.announced.clear();
                return self.send_changes().await;
            }
            Effect::Notified { by_us } => self.links.status.notified(by_us),
            Effect::ShutDown => self.links.status.drained(),
            Effect::Fault(Fault::NoSession) => self.links.status.error(sockets::no_session(&self.settings)),
            Effect::Fault(fault @ Fault::PathFailed) => self.links.status.path_failed(fault.to_string()),
            Effect::Fault(fault @ Fault::EndedByNeighbour(_)) => {
                self.links.status.ended_by_neighbour(fault.to_string());
            }
            Effect::Fault(fault) => self.links.status.error(fault.to_string()),
        }
        None
    }

    fn dial(&mut self) {
        let settings = self.settings.clone();
        let source = source::of(&settings, source::announced(&self.local.report.borrow()));
        let dial: BoxFuture<'static, _> = Box::pin(async move { sockets::connect(&settings, source).await });
        self.dialing = Some(dial).into();
    }

    async fn state_changed(&mut self, state: State) {
        self.links.status.state(state);
        match state {
            State::Idle => {
                self.announced.clear();
                if let Some(rib) = &self.links.rib {
                    rib.down().await;
                }
            }
            State::Connect => self.aim(),
            _ => {}
        }
    }

    /// Writes to a connection, for as long as the hold time at most.
    pub(super) async fn write(&mut self, id: ConnectionId, octets: &[u8]) -> Option<Event> {
        let longest = Duration::from_secs(self.settings.hold_time.into());
        let connection = self.connections.iter_mut().find(|it| it.id() == id)?;
        match connection.write(octets, longest).await {
            Ok(()) => None,
            Err(error) => self.broken(id, &error),
        }
    }

    pub(super) fn broken(&mut self, id: ConnectionId, error: &io::Error) -> Option<Event> {
        let before = self.connections.len();
        self.connections.retain(|it| it.id() != id);
        (self.connections.len() < before).then(|| Event::Lost(id, error.to_string()))
    }
}
