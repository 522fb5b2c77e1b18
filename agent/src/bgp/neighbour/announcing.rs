//! Announces to the neighbour what should be announced, as it changes.

use std::io;

use super::Neighbour;
use crate::bgp::{
    paths::news,
    peer::{ConnectionId, Event},
    wire::encode::{self, SessionParameters},
};

impl Neighbour {
    /// Everything, and its end (RFC 4724 §2).
    pub(super) async fn established(&mut self) -> Option<Event> {
        self.announced.clear();
        self.links.status.established();
        if let Some(rib) = &self.links.rib {
            rib.up().await;
        }
        if let Some(lost) = self.send_changes().await {
            return Some(lost);
        }
        let id = self.peer.connection()?;
        match encode::end_of_rib(&self.parameters(id)?) {
            Ok(end) => self.write(id, &end).await,
            Err(error) => self.broken(id, &io::Error::other(error)),
        }
    }

    pub(super) async fn announce_changes(&mut self) {
        if self.peer.is_established()
            && let Some(lost) = self.send_changes().await
        {
            self.step(lost).await;
        }
    }

    pub(super) async fn send_changes(&mut self) -> Option<Event> {
        let wanted = self.local.wanted.borrow_and_update().paths.clone();
        let news = news(&self.announced, &wanted);
        let id = self.peer.connection()?;
        let updates = match encode::updates(&news, &self.parameters(id)?) {
            Ok(updates) => updates,
            Err(error) => return self.broken(id, &io::Error::other(error)),
        };
        for update in updates {
            if let Some(lost) = self.write(id, &update).await {
                return Some(lost);
            }
            self.links.status.sent();
        }
        self.links.status.announced(wanted.len());
        self.announced = wanted;
        None
    }

    pub(super) fn parameters(&self, id: ConnectionId) -> Option<SessionParameters<'_>> {
        let connection = self.connections.iter().find(|it| it.id() == id)?;
        let (own_address, own_link_local) = connection.own()?;
        Some(SessionParameters {
            local_as: self.local.bgp.local_as,
            neighbour: &self.settings,
            own_address,
            own_link_local,
            four_octet_as: self.peer.four_octet_as(),
        })
    }
}
