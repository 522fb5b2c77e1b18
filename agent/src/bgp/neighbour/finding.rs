//! A neighbour of which only the interface is configured.

use std::{io, net::Ipv6Addr};

use rustbgpd_fsm::{Event, SessionState};
use tokio::net::TcpStream;

use super::Neighbour;
use crate::bgp::sockets;

impl Neighbour {
    /// A router has advertised itself. While there is a session with one, others do not count.
    pub(super) async fn found(&mut self, found: io::Result<Ipv6Addr>) {
        let address = match found {
            Ok(address) => address,
            Err(error) => return self.status.error(format!("its link cannot be listened to: {error}")),
        };
        if self.settings.address == address || self.connection.is_some() {
            return;
        }
        self.is_at(address);
        if matches!(self.fsm.state(), SessionState::Connect | SessionState::Active) {
            self.feed(Event::ConnectRetryTimerExpires).await;
        }
    }

    /// Who opens a connection from the link is there.
    pub(super) fn find(&mut self, stream: &TcpStream) {
        if self.discovery.is_some()
            && self.connection.is_none()
            && let Some((address, _)) = stream.peer_addr().ok().and_then(sockets::opener)
        {
            self.is_at(address);
        }
    }

    fn is_at(&mut self, address: Ipv6Addr) {
        if self.settings.address != address {
            self.settings.address = address;
            self.status.address(address);
            self.aim();
        }
    }

    /// Tells BFD where the neighbour is, as far as that is known.
    pub(super) fn aim(&self) {
        if let (Some(watched), Ok(place)) = (&self.watched, sockets::place(&self.settings)) {
            watched.aim(place);
        }
    }
}
