//! A neighbour of which only the interface is configured.

use std::{io, net::Ipv6Addr};

use tokio::net::TcpStream;

use super::Neighbour;
use crate::bgp::{peer::Event, sockets};

impl Neighbour {
    /// A router has advertised itself. While there is a session with one, others do not count.
    pub(super) async fn found(&mut self, found: io::Result<Ipv6Addr>) {
        let address = match found {
            Ok(address) => address,
            Err(error) => {
                return self.links.status.error(format!("its link cannot be listened to: {error}"));
            }
        };
        if self.settings.address != address && self.peer.connection().is_none() {
            self.is_at(address);
            self.step(Event::Moved).await;
        }
    }

    /// The address of a neighbour that opens a connection.
    pub(super) fn find(&mut self, stream: &TcpStream) {
        if self.discovery.is_some()
            && self.peer.connection().is_none()
            && let Some((address, _)) = stream.peer_addr().ok().and_then(sockets::opener)
        {
            self.is_at(address);
        }
    }

    fn is_at(&mut self, address: Ipv6Addr) {
        if self.settings.address != address {
            self.settings.address = address;
            self.links.status.address(address);
            self.aim();
        }
    }

    /// Tells BFD the neighbour's address, as far as that is known.
    pub(super) fn aim(&self) {
        if let (Some((_, aim)), Ok(place)) = (&self.links.bfd, sockets::place(&self.settings)) {
            aim.at(place);
        }
    }
}
