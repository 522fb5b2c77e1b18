//! What happens in the kernel, as it tells its multicast groups.
//!
//! One task for each subscription: it waits for datagrams, for the subscriber to take [`Event::Overrun`] where events were
//! missed, and for another port that our own changes come from. It ends when the subscriber drops the receiver, or when the socket fails, which the subscriber sees as the
//! end of the channel.

use std::{future::pending, io};

use nix::libc::{RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_LINK};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use super::{
    super::{Event, KernelError},
    conversation::broken,
    filter,
    frame::{Frame, Malformed, frames},
    link::{self, decode_address, decode_link},
    route::{self, RTM_DELROUTE, RTM_NEWROUTE},
    socket::{RECEIVE_BUFFER, RouteSocket, is_overrun},
};

/// How many events wait for the subscriber before they are dropped for an [`Event::Overrun`].
const WAITING: usize = 1024;
const GROUPS: [u32; 3] = [RTNLGRP_LINK, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE];

/// Starts to listen; route changes sent from `own_port` are left out.
pub fn subscribe(mut own_port: watch::Receiver<u32>) -> Result<mpsc::Receiver<Event>, KernelError> {
    let socket = RouteSocket::open(&GROUPS, RECEIVE_BUFFER).map_err(|error| broken("listen", &error))?;
    let filtered = socket.keep_back(&filter::own_routes(*own_port.borrow_and_update()));
    filtered.map_err(|error| broken("listen", &error))?;
    let (events, receiver) = mpsc::channel(WAITING);
    let listener = Listener { socket, own_port, events, missed: false };
    tokio::spawn(listener.run());
    Ok(receiver)
}

struct Listener {
    socket: RouteSocket,
    own_port: watch::Receiver<u32>,
    events: mpsc::Sender<Event>,
    /// Something was not passed on, and the subscriber has not been told so yet.
    missed: bool,
}

/// What the task waited for.
enum Woken {
    Deserted,
    OverrunTold,
    OtherPort,
    Received(io::Result<()>),
}

impl Listener {
    async fn run(mut self) {
        let mut buffer = Vec::new();
        loop {
            let taken = match self.wake(&mut buffer).await {
                Woken::Deserted => return,
                Woken::OverrunTold => {
                    self.missed = false;
                    Ok(())
                }
                Woken::OtherPort => {
                    let port = *self.own_port.borrow_and_update();
                    self.socket.keep_back(&filter::own_routes(port))
                }
                Woken::Received(received) => self.take(received, &buffer),
            };
            if let Err(error) = taken {
                tracing::error!(%error, "cannot listen to the kernel any more");
                return;
            }
        }
    }

    async fn wake(&mut self, buffer: &mut Vec<u8>) -> Woken {
        // All are cancel safe.
        tokio::select! {
            () = self.events.closed() => Woken::Deserted,
            room = self.events.reserve(), if self.missed => room.map_or(Woken::Deserted, |room| {
                room.send(Event::Overrun);
                Woken::OverrunTold
            }),
            () = other_port(&mut self.own_port) => Woken::OtherPort,
            received = self.socket.receive(buffer) => Woken::Received(received),
        }
    }

    fn take(&mut self, received: io::Result<()>, datagram: &[u8]) -> io::Result<()> {
        match received {
            Ok(()) => self.pass_on(datagram),
            Err(error) if is_overrun(&error) => {
                // What is still in the queue is older than what was lost: told after the overrun, it would make a
                // subscriber that has read everything anew believe in the past.
                self.socket.discard_received()?;
                self.missed = true;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn pass_on(&mut self, datagram: &[u8]) {
        for frame in frames(datagram) {
            // Whatever happens before the overrun is taken is covered by it.
            if self.missed {
                return;
            }
            match frame.and_then(|frame| self.event(&frame)) {
                Ok(Some(event)) => {
                    self.missed = matches!(self.events.try_send(event), Err(TrySendError::Full(_)))
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the kernel tells what cannot be read");
                    self.missed = true;
                }
            }
        }
    }

    fn event(&self, frame: &Frame<'_>) -> Result<Option<Event>, Malformed> {
        // The kernel keeps them back already, but for those between a new port and its filter.
        let own = frame.port == *self.own_port.borrow();
        Ok(match frame.kind {
            RTM_NEWROUTE | RTM_DELROUTE if own => None,
            RTM_NEWROUTE => route::decode(frame.payload)?.map(Event::RouteChanged),
            RTM_DELROUTE => route::decode(frame.payload)?.map(Event::RouteGone),
            link::RTM_NEWLINK => decode_link(frame.payload)?.map(Event::LinkChanged),
            link::RTM_DELLINK => decode_link(frame.payload)?.map(Event::LinkGone),
            link::RTM_NEWADDR => decode_address(frame.payload)?.map(Event::AddressChanged),
            link::RTM_DELADDR => decode_address(frame.payload)?.map(Event::AddressGone),
            _ => None,
        })
    }
}

/// Ends when our changes come from another port; never if there are none any more.
async fn other_port(own_port: &mut watch::Receiver<u32>) {
    if own_port.changed().await.is_err() {
        pending::<()>().await;
    }
}
