//! The kernel's notifications, from its multicast groups.
//!
//! One task for each subscription: it waits for datagrams, for room in the channel to send [`Event::Overrun`] after lost
//! events, and for a change of our own port. It ends when the subscriber drops the receiver, or when the socket fails: then
//! the channel ends.

use std::{future::pending, io};

use nix::libc::{RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, RTNLGRP_LINK, RTNLGRP_NEIGH};
use sextant_daemon::OncePerMinute;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::Instant,
};

use super::{
    super::{Event, KernelError},
    conversation::broken,
    fdb, filter,
    frame::{Frame, Malformed, frames},
    link::{self, decode_address, decode_link},
    netconf,
    route::{self, RTM_DELROUTE, RTM_NEWROUTE},
    rule,
    socket::{KernelSocket, RECEIVE_BUFFER, is_overrun},
};

/// Capacity of the channel; later events are dropped, and replaced by an [`Event::Overrun`].
const WAITING: usize = 1024;
/// The sender of what the kernel does by itself.
const KERNEL_PORT: u32 = 0;
const GROUPS: [u32; 6] =
    [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, netconf::GROUP];

/// Subscribes to notifications, without route changes that were sent from `own_port`.
pub fn subscribe(mut own_port: watch::Receiver<u32>) -> Result<mpsc::Receiver<Event>, KernelError> {
    let socket = KernelSocket::open(&GROUPS, RECEIVE_BUFFER)
        .map_err(|error| broken("subscribe to notifications", &error))?;
    let filtered = socket.attach_filter(&filter::host_changes(*own_port.borrow_and_update()));
    filtered.map_err(|error| broken("subscribe to notifications", &error))?;
    let (events, receiver) = mpsc::channel(WAITING);
    let listener = Listener { socket, own_port, events, missed: false, lines: OncePerMinute::default() };
    tokio::spawn(listener.run());
    Ok(receiver)
}

struct Listener {
    socket: KernelSocket,
    own_port: watch::Receiver<u32>,
    events: mpsc::Sender<Event>,
    /// Events were lost, and the overrun is not sent yet.
    missed: bool,
    lines: OncePerMinute,
}

/// The reason why the task wakes.
enum Woken {
    Unsubscribed,
    OverrunSent,
    PortChanged,
    Received(io::Result<()>),
}

impl Listener {
    async fn run(mut self) {
        let mut buffer = Vec::new();
        loop {
            let taken = match self.wake(&mut buffer).await {
                Woken::Unsubscribed => return,
                Woken::OverrunSent => {
                    self.missed = false;
                    Ok(())
                }
                Woken::PortChanged => {
                    let port = *self.own_port.borrow_and_update();
                    self.socket.attach_filter(&filter::host_changes(port))
                }
                Woken::Received(received) => self.take(received, &buffer),
            };
            if let Err(error) = taken {
                tracing::error!(%error, "kernel notifications failed");
                return;
            }
        }
    }

    async fn wake(&mut self, buffer: &mut Vec<u8>) -> Woken {
        // All are cancel safe.
        tokio::select! {
            () = self.events.closed() => Woken::Unsubscribed,
            room = self.events.reserve(), if self.missed => room.map_or(Woken::Unsubscribed, |room| {
                room.send(Event::Overrun);
                Woken::OverrunSent
            }),
            () = port_changed(&mut self.own_port) => Woken::PortChanged,
            received = self.socket.receive(buffer) => Woken::Received(received),
        }
    }

    fn take(&mut self, received: io::Result<()>, datagram: &[u8]) -> io::Result<()> {
        match received {
            Ok(()) => self.pass_on(datagram),
            Err(error) if is_overrun(&error) => {
                // Queued events are older than the lost ones: after the overrun they would overwrite newer state that
                // the subscriber has read.
                self.socket.discard_received()?;
                self.missed = true;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn pass_on(&mut self, datagram: &[u8]) {
        for frame in frames(datagram) {
            // The overrun covers all events until it is sent.
            if self.missed {
                return;
            }
            match frame.and_then(|frame| self.event(&frame)) {
                Ok(Some(event)) => {
                    self.missed = matches!(self.events.try_send(event), Err(TrySendError::Full(_)))
                }
                Ok(None) => {}
                Err(error) => {
                    if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
                        tracing::warn!(%error, suppressed, "unparseable netlink message");
                    }
                    self.missed = true;
                }
            }
        }
    }

    fn event(&self, frame: &Frame<'_>) -> Result<Option<Event>, Malformed> {
        // The socket's filter drops them, except between a change of the port and the new filter.
        let own = frame.port == *self.own_port.borrow();
        Ok(match frame.kind {
            RTM_NEWROUTE | RTM_DELROUTE if own => None,
            RTM_NEWROUTE => route::decode(frame.payload)?.map(Event::RouteChanged),
            RTM_DELROUTE if frame.port == KERNEL_PORT => route::decode(frame.payload)?.map(Event::RouteGone),
            RTM_DELROUTE => route::decode(frame.payload)?.map(Event::RouteDeleted),
            link::RTM_NEWLINK => decode_link(frame.payload)?.map(Event::LinkChanged),
            link::RTM_DELLINK => decode_link(frame.payload)?.map(Event::LinkGone),
            link::RTM_NEWADDR => decode_address(frame.payload)?.map(Event::AddressChanged),
            link::RTM_DELADDR => decode_address(frame.payload)?.map(Event::AddressGone),
            rule::RTM_NEWRULE | rule::RTM_DELRULE => Some(Event::RulesChanged),
            fdb::RTM_DELNEIGH => fdb::forgotten(frame.payload)?,
            netconf::RTM_NEWNETCONF => netconf::decode(frame.payload)?,
            _ => None,
        })
    }
}

/// Returns when our own port has changed; never if it cannot change any more.
async fn port_changed(own_port: &mut watch::Receiver<u32>) {
    if own_port.changed().await.is_err() {
        pending::<()>().await;
    }
}
