//! What the neighbour sends.

use super::Neighbour;
use crate::bgp::{
    peer::{ConnectionId, Event, Received},
    wire::{
        Message, UpdateMessage,
        decode::{Misread, Treatment, Update, asks_for_ours, read_update},
        routes::route_update,
    },
};

impl Neighbour {
    /// All whole messages that were read on a connection, for as long as it counts.
    pub(super) async fn messages(&mut self, id: ConnectionId) {
        while let Some(connection) = self.connections.iter_mut().find(|it| it.id() == id) {
            match connection.next_message() {
                Ok(Some(message)) => self.message(id, message).await,
                Ok(None) => return,
                Err(error) => {
                    let received = match error {
                        Misread::Answered(error) => Received::Malformed(error),
                        Misread::Notification(_) => Received::MalformedNotification(error.to_string()),
                    };
                    return self.step(Event::Received(id, received)).await;
                }
            }
        }
    }

    async fn message(&mut self, id: ConnectionId, message: Message) {
        let received = match message {
            Message::Open(open) => Received::Open(open),
            Message::Keepalive => Received::Keepalive,
            Message::Notification(notification) => Received::Notification(notification),
            Message::RouteRefresh(refresh) => Received::RouteRefresh(asks_for_ours(&refresh)),
            Message::Update(update) if self.peer.connection() == Some(id) => {
                return self.update(id, &update).await;
            }
            Message::Update(_) => Received::Update,
            _ => return,
        };
        self.step(Event::Received(id, received)).await;
    }

    async fn update(&mut self, id: ConnectionId, update: &UpdateMessage) {
        self.links.status.received();
        let Some(between) = self.parameters(id).map(|it| it.between()) else { return };
        match read_update(update, between) {
            Ok(read) => {
                self.report(&read);
                self.step(Event::Received(id, Received::Update)).await;
                self.receive_routes(id, &read).await;
            }
            Err(error) => self.step(Event::Received(id, Received::Malformed(error))).await,
        }
    }

    fn report(&self, read: &Update) {
        let outcome = match read.treatment {
            Treatment::AsWithdrawal => "what it announces counts as withdrawn",
            Treatment::AttributesDiscarded | Treatment::Taken => "it is taken without that",
        };
        if !read.faults.is_empty() {
            let faults = read.faults.join("; ");
            self.links.status.error(format!("it sent an UPDATE that is wrong ({faults}): {outcome}"));
        }
    }

    /// Passes the routes of an UPDATE on to the RIB.
    async fn receive_routes(&mut self, id: ConnectionId, update: &Update) {
        if !self.peer.is_established() {
            return;
        }
        let (Some(rib), Some(parameters)) = (&self.links.rib, self.parameters(id)) else { return };
        let interface = self.settings.interface.as_ref();
        let mut routes =
            route_update(update, &parameters, self.local.router_id, self.settings.address, interface);
        if let Some((prefixes, _)) = &mut routes.announced {
            prefixes.retain(|prefix| self.settings.accept.takes(*prefix));
        }
        let Some(accepted) = rib.update(routes).await else { return };
        self.links.status.imported(accepted.prefixes);
        if accepted.limit.is_err() {
            self.step(Event::TooManyPrefixes).await;
        }
    }
}
