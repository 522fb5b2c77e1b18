//! The task of one neighbour: it owns the sockets and waits for the deadlines of a [`Peer`], which decides, and carries out
//! the effects.

mod announcing;
mod effects;
mod finding;
mod receiving;
mod source;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use futures::future::{BoxFuture, OptionFuture};
use sextant_proto::NodeName;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    paths::{Paths, Wanted},
    peer::{Config, ConnectionId, Event, Peer},
    rib::AdjRibIn,
    sockets::{
        self,
        connection::{Connection, read_any},
        discovery::{self, Discovery},
    },
    status::Status,
    wire::open::Restart,
};
use crate::{
    bfd::{Aim, Health},
    deadline,
    engine::Report,
    settings::{BgpSettings, NeighbourSettings},
};

/// What all neighbours' tasks have in common.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) bgp: Arc<BgpSettings>,
    pub(super) router_id: Ipv4Addr,
    pub(super) restart: Restart,
    pub(super) node: NodeName,
    pub(super) wanted: watch::Receiver<Wanted>,
    /// What peers have of this host.
    pub(super) report: watch::Receiver<Report>,
    /// A password has changed.
    pub(super) rekeyed: watch::Receiver<()>,
}

/// What one neighbour's task works with.
pub(super) struct Links {
    /// Connections that the neighbour opens.
    pub(super) incoming: mpsc::Receiver<TcpStream>,
    /// Where its state is shown.
    pub(super) status: Status,
    /// BFD's reports of the path, and where BFD gets the neighbour's address.
    pub(super) bfd: Option<(watch::Receiver<Health>, Aim)>,
    /// Takes the routes that the neighbour announces, if they are imported.
    pub(super) rib: Option<AdjRibIn>,
}

pub(super) struct Neighbour {
    local: Local,
    settings: NeighbourSettings,
    links: Links,
    peer: Peer,
    connections: Vec<Connection>,
    next_id: u32,
    dialing: OptionFuture<BoxFuture<'static, io::Result<TcpStream>>>,
    /// What the neighbour knows of (Adj-RIB-Out, RFC 4271 §3.2).
    announced: Paths,
    discovery: Option<Discovery>,
}

enum Happening {
    Dialed(io::Result<TcpStream>),
    Incoming(TcpStream),
    Read(ConnectionId, io::Result<usize>),
    Wanted,
    Rekeyed,
    Bfd(Health),
    Found(io::Result<Ipv6Addr>),
    Due,
}

impl Neighbour {
    pub(super) fn new(local: Local, settings: NeighbourSettings, links: Links) -> Self {
        let config = Config::new(&local.bgp, &settings, local.router_id, local.node.clone());
        let failures = links.bfd.as_ref().map_or(0, |(health, _)| health.borrow().failures);
        let sought = settings.interface.clone().filter(|_| settings.address.is_unspecified());
        Self {
            peer: Peer::new(config, local.restart, failures, Instant::now()),
            local,
            settings,
            links,
            connections: Vec::new(),
            next_id: 0,
            dialing: None.into(),
            announced: Paths::new(),
            discovery: sought.map(Discovery::new),
        }
    }

    /// Has sessions with the neighbour, for ever.
    pub(super) async fn run(mut self) -> Infallible {
        self.follow_wanted().await;
        loop {
            let happening = self.next().await;
            self.take(happening).await;
        }
    }

    async fn next(&mut self) -> Happening {
        let (deadline, peer) = (self.peer.next_deadline(), &self.peer);
        tokio::select! {
            Some(dialed) = &mut self.dialing => {
                self.dialing = None.into();
                Happening::Dialed(dialed)
            }
            Some(stream) = self.links.incoming.recv() => Happening::Incoming(stream),
            (id, read) = read_any(&mut self.connections, |id| peer.listens_to(id)) => Happening::Read(id, read),
            Ok(()) = self.local.wanted.changed() => Happening::Wanted,
            Ok(()) = self.local.rekeyed.changed() => Happening::Rekeyed,
            health = reported(&mut self.links.bfd) => Happening::Bfd(health),
            found = discovery::heard(&mut self.discovery) => Happening::Found(found),
            () = deadline::reached(deadline) => Happening::Due,
        }
    }

    async fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Dialed(Ok(stream)) => {
                let id = self.add(stream);
                self.step(Event::Connected(id)).await;
            }
            Happening::Dialed(Err(error)) => self.step(Event::ConnectFailed(error.to_string())).await,
            Happening::Incoming(stream) => self.incoming(stream).await,
            Happening::Read(id, Ok(1..)) => self.messages(id).await,
            Happening::Read(id, Ok(_)) => self.lost(id, "the neighbour closed the connection".into()).await,
            Happening::Read(id, Err(error)) => self.lost(id, error.to_string()).await,
            Happening::Wanted => self.follow_wanted().await,
            Happening::Rekeyed => self.sign().await,
            Happening::Bfd(health) => {
                self.links.status.bfd(health.state);
                self.step(Event::Bfd(health)).await;
            }
            Happening::Found(found) => self.found(found).await,
            Happening::Due => self.step(Event::Due).await,
        }
    }

    async fn incoming(&mut self, stream: TcpStream) {
        self.find(&stream);
        match sockets::accept(&stream, &self.settings) {
            Ok(()) => {
                let id = self.add(stream);
                self.step(Event::Accepted(id)).await;
            }
            Err(error) => self.links.status.error(error.to_string()),
        }
    }

    /// The present connections are signed with the present password.
    async fn sign(&mut self) {
        let sign = |it: &Connection| Some((it.id(), it.sign(&self.settings).err()?));
        let failed: Vec<_> = self.connections.iter().filter_map(sign).collect();
        for (id, error) in failed {
            self.lost(id, format!("its password cannot be changed: {error}")).await;
        }
    }

    fn add(&mut self, stream: TcpStream) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let connection = Connection::new(id, stream, source::announced(&self.local.report.borrow()));
        self.connections.push(connection);
        id
    }

    async fn lost(&mut self, id: ConnectionId, error: String) {
        self.connections.retain(|it| it.id() != id);
        self.step(Event::Lost(id, error)).await;
    }

    /// What changed is announced; then the session ends if the host is drained, or one begins if it no longer is.
    async fn follow_wanted(&mut self) {
        self.announce_changes().await;
        let drained = self.local.wanted.borrow().drained;
        self.step(Event::Drained(drained)).await;
    }
}

/// BFD's next report; none ever of a path that it does not watch. Cancel safe.
async fn reported(bfd: &mut Option<(watch::Receiver<Health>, Aim)>) -> Health {
    if let Some((health, _)) = bfd
        && health.changed().await.is_ok()
    {
        return *health.borrow_and_update();
    }
    std::future::pending().await
}
