//! Bidirectional Forwarding Detection with routers on the same link (RFC 5880, 5881): whether the way to a BGP neighbour works,
//! within a fraction of a second.
//!
//! ```text
//! datagrams ─► sockets ─► packet ─► session (pure) ─► datagrams, Health ─► the BGP neighbour's task
//! ```
//!
//! It has a thread of its own: while the engine puts 100,000 routes into the kernel, the agent's one thread is busy for longer
//! than a neighbour waits.

mod packet;
mod session;
mod sockets;

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    thread::JoinHandle,
    time::Duration,
};

use rand::Rng;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    deadline,
    problems::Finding,
    settings::{Timing, listening_address},
};

use packet::Packet;
pub use packet::State;
use session::{Effect, Event, Session};
use sockets::Datagram;

/// The first delay before another attempt to listen; it doubles up to the last one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(30);

/// A neighbour to have a session with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Our address, if it matters which.
    pub source: Option<Ipv6Addr>,
    /// How often.
    pub timing: Timing,
}

/// How a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Its state.
    pub state: State,
    /// The number of failures of the path to the neighbour.
    pub failures: u64,
}

/// Why there can be no BFD.
#[derive(Debug, thiserror::Error)]
pub enum BfdError {
    /// No thread.
    #[error("BFD's thread cannot start: {0}")]
    Thread(#[source] io::Error),
    /// It has panicked.
    #[error("BFD's thread has ended")]
    Ended,
}

/// The sessions. When this is dropped, each neighbour gets AdminDown (RFC 5880 §6.8.16).
pub struct Bfd {
    neighbours: Option<mpsc::UnboundedSender<(usize, SocketAddrV6)>>,
    health: Vec<watch::Receiver<Health>>,
    thread: Option<JoinHandle<()>>,
    /// Why it cannot listen.
    trouble: watch::Receiver<Option<String>>,
}

/// Tells where a neighbour is.
#[derive(Debug, Clone)]
pub struct Aim {
    nth: usize,
    neighbours: mpsc::WeakUnboundedSender<(usize, SocketAddrV6)>,
}

impl Aim {
    /// The neighbour is here: from now on packets go to there, and only those from there count. The port is of no concern.
    pub fn at(&self, neighbour: SocketAddrV6) {
        if let Some(neighbours) = self.neighbours.upgrade() {
            // A thread that has ended has said so.
            let _gone = neighbours.send((self.nth, neighbour));
        }
    }
}

impl Bfd {
    /// A session for each of `peers`, which begins once [`Aim::at`] says where the peer is.
    ///
    /// # Errors
    /// A [`BfdError`].
    pub fn start(peers: &[Peer]) -> Result<Self, BfdError> {
        let (neighbours, aimed) = mpsc::unbounded_channel();
        let (trouble_tx, trouble) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BfdError::Thread)?;
        let address = listening_address(peers.iter().map(|peer| peer.source));
        let (lines, health): (Vec<_>, Vec<_>) = peers.iter().map(Line::new).unzip();
        let work = move || runtime.block_on(work(address, lines, aimed, trouble_tx));
        let thread = std::thread::Builder::new().name("bfd".into()).spawn(work).map_err(BfdError::Thread)?;
        Ok(Self { neighbours: Some(neighbours), health, thread: Some(thread), trouble })
    }

    /// How the session of the `nth` peer is, and who tells where that is.
    pub fn session(&self, nth: usize) -> Option<(watch::Receiver<Health>, Aim)> {
        let neighbours = self.neighbours.as_ref()?.downgrade();
        Some((self.health.get(nth)?.clone(), Aim { nth, neighbours }))
    }

    /// Waits until it can or cannot listen any more; see [`Bfd::finding`]. Cancel safe.
    ///
    /// # Errors
    /// If its thread has ended unexpectedly.
    pub async fn changed(&mut self) -> Result<(), BfdError> {
        self.trouble.changed().await.map_err(|_| BfdError::Ended)
    }

    /// What is wrong, if it cannot listen.
    pub fn finding(&mut self) -> Option<Finding> {
        let error = self.trouble.borrow_and_update().clone()?;
        let port = sockets::PORT;
        let saw = format!(
            "bfd = true: UDP port {port}: {error}: no failure of a path is noticed by BFD; BGP sessions go on"
        );
        let fix =
            "stop FRR's bfdd or BIRD's BFD on this host, or remove bfd in agent.toml; it is tried again";
        Some(Finding::new("bfd-port", saw, fix))
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.neighbours = None;
        // The last packets are on their way when this returns.
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("BFD's thread has panicked");
        }
    }
}

/// A session with its socket.
struct Line {
    peer: Peer,
    session: Session,
    neighbour: Option<SocketAddrV6>,
    socket: Option<std::net::UdpSocket>,
    health: watch::Sender<Health>,
}

impl Line {
    fn new(peer: &Peer) -> (Self, watch::Receiver<Health>) {
        let (health, seen) = watch::channel(Health { state: State::Down, failures: 0 });
        let session = begin(peer);
        (Self { peer: *peer, session, neighbour: None, socket: None, health }, seen)
    }

    fn aim(&mut self, neighbour: SocketAddrV6) {
        if self.neighbour != Some(neighbour) {
            self.neighbour = Some(neighbour);
            self.socket = None;
            self.session = begin(&self.peer);
            self.health.send_modify(|health| health.state = State::Down);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.neighbour.map(|_| self.session.due())
    }

    /// RFC 5880 §6.8.6: by our number where the packet has it, else by where it comes from.
    fn is_for(&self, packet: &Packet, from: SocketAddrV6) -> bool {
        let from_there = self.neighbour.is_some_and(|neighbour| {
            let linked = !neighbour.ip().is_unicast_link_local() || neighbour.scope_id() == from.scope_id();
            neighbour.ip() == from.ip() && linked
        });
        from_there && (packet.yours == 0 || packet.yours == self.session.discriminator())
    }

    fn step(&mut self, event: Event) {
        let (session, effects) = self.session.step(event, Instant::now(), rand::rng().random());
        self.session = session;
        for effect in effects {
            match effect {
                Effect::Send(packet) => self.send(&packet),
                Effect::Changed { to, failed } => self.changed(to, failed),
            }
        }
    }

    fn changed(&self, to: State, failed: bool) {
        let neighbour = self.neighbour.map(|neighbour| neighbour.ip().to_string()).unwrap_or_default();
        if failed {
            tracing::warn!(neighbour, "BFD session down: path to the neighbour failed");
        } else {
            tracing::info!(neighbour, state = ?to, "BFD session state changed");
        }
        self.health.send_modify(|health| {
            health.state = to;
            health.failures += u64::from(failed);
        });
    }

    /// What cannot be sent is lost, as on the wire; it is tried anew with the next packet.
    fn send(&mut self, packet: &Packet) {
        let Some(neighbour) = self.neighbour else { return };
        let socket = match self.socket.take() {
            Some(socket) => Ok(socket),
            None => sockets::speak(neighbour, self.peer.source),
        };
        let sent = socket.and_then(|socket| {
            socket.send(&packet.encode())?;
            Ok(socket)
        });
        match sent {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => tracing::debug!(neighbour = %neighbour.ip(), %error, "a BFD packet cannot be sent"),
        }
    }
}

fn begin(peer: &Peer) -> Session {
    Session::new(peer.timing, rand::rng().random_range(1..=u32::MAX), Instant::now())
}

/// Listens as soon as the port is free, then keeps the sessions.
async fn work(
    address: Ipv6Addr,
    mut lines: Vec<Line>,
    mut aimed: mpsc::UnboundedReceiver<(usize, SocketAddrV6)>,
    trouble: watch::Sender<Option<String>>,
) {
    let mut delay = FIRST_DELAY;
    loop {
        match sockets::listen(address) {
            Ok(listener) => {
                trouble.send_replace(None);
                return run(&listener, lines, aimed).await;
            }
            Err(error) => drop(trouble.send_replace(Some(error.to_string()))),
        }
        let again_at = Instant::now() + delay;
        delay = (delay * 2).min(LAST_DELAY);
        while let Ok(aim) = tokio::time::timeout_at(again_at, aimed.recv()).await {
            let Some((nth, neighbour)) = aim else { return };
            if let Some(line) = lines.get_mut(nth) {
                line.aim(neighbour);
            }
        }
    }
}

/// Keeps the sessions, until nobody wants them any more.
async fn run(
    listener: &UdpSocket,
    mut lines: Vec<Line>,
    mut aimed: mpsc::UnboundedReceiver<(usize, SocketAddrV6)>,
) {
    loop {
        let due = lines.iter().filter_map(Line::due).min();
        tokio::select! {
            // What has been heard counts before what is overdue.
            biased;
            heard = sockets::hear(listener) => match heard {
                Ok(datagram) => take(&mut lines, &datagram),
                Err(error) => tracing::debug!(%error, "a BFD packet cannot be heard"),
            },
            () = deadline::reached(due) => {
                let now = Instant::now();
                let late = lines.iter_mut().filter(|line| line.due().is_some_and(|due| due <= now));
                late.for_each(|line| line.step(Event::Due));
            }
            aim = aimed.recv() => match aim {
                Some((nth, neighbour)) => if let Some(line) = lines.get_mut(nth) { line.aim(neighbour) },
                None => break,
            },
        }
    }
    lines.iter_mut().filter(|line| line.neighbour.is_some()).for_each(|line| line.step(Event::Stop));
}

fn take(lines: &mut [Line], datagram: &Datagram) {
    match Packet::decode(datagram.octets()) {
        Ok(packet) => {
            if let Some(line) = lines.iter_mut().find(|line| line.is_for(&packet, datagram.from)) {
                line.step(Event::Received(packet));
            }
        }
        Err(error) => {
            tracing::debug!(from = %datagram.from.ip(), %error, "a BFD packet is discarded");
        }
    }
}
