//! The connections of agents and operators: their limit, and which are closed.
//!
//! File descriptors are limited. The limit of connections leaves enough of them for the store, probes and other controllers.
//! The last connections below the limit are reserved for clients on this host: an operator can connect however many agents
//! there are. A connection without any call is closed after [`SILENT`], or after [`GRACE`] if a new connection needs its place. A
//! connection without a call in progress is closed after the idle time-out, even if it answers pings; an agent's stream is a call
//! in progress. One address, and one member, has a part of the places only. A refused peer receives a GOAWAY with the reason.

mod calls;
mod connection;
mod transport;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{Stream, stream};
use sextant_daemon::{Failing, Outage};
use sextant_identity::Credentials;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, MissedTickBehavior},
};
use tonic::transport::server::Connected;

pub(crate) use self::calls::CountCalls;
pub use self::connection::{Connection, Info};
use crate::{audit::RefusedCalls, limits::Limits};

use self::{
    calls::{Calls, Use},
    connection::Slot,
    transport::Transport,
};

/// How long a connection may be open without a call.
const SILENT: Duration = Duration::from_secs(10);
/// How long a new connection is not replaced, so that it can make its first call.
const GRACE: Duration = Duration::from_secs(1);
/// How often unused connections are closed.
const SWEEP: Duration = Duration::from_secs(1);
/// Descriptors that are reserved for the store, probes and other controllers.
const RESERVED: usize = 96;
/// Places that are reserved for connections from this host.
const OPERATORS: usize = 16;
/// How many refused peers receive a reason at the same time; further ones are closed without a reason.
const REFUSALS_AT_ONCE: usize = 16;
/// How long sending the reason to a refused peer may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What connections are made over.
#[derive(Debug, Clone)]
pub enum Security {
    /// Plain text.
    PlainText,
    /// TLS, and plain text beside it.
    Either(Arc<Credentials>),
    /// TLS alone.
    Tls(Arc<Credentials>),
}

/// All connections of the gRPC server.
#[derive(Debug, Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    operators: usize,
    /// The most of one address, and of one member.
    of_address: usize,
    of_member: usize,
    idle_timeout: Duration,
    book: Mutex<Book>,
    refused: AtomicU64,
    silent: AtomicU64,
    idle: AtomicU64,
    refusals: Arc<Semaphore>,
    /// For the audit: certificates that are not accepted.
    refused_calls: RefusedCalls,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    calls: Arc<Calls>,
    address: IpAddr,
    /// The member at the other end, once that is known.
    member: Option<String>,
    /// None while it is being closed.
    close: Option<oneshot::Sender<()>>,
}

/// How many connections were closed, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Closed {
    silent: u64,
    idle: u64,
}

/// The decision on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Admit,
    /// It replaces this connection.
    Replace(u64),
    Refuse,
}

/// Counts for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Open connections.
    pub open: usize,
    /// The limit.
    pub most: usize,
    /// Refused connections since the start.
    pub refused: u64,
    /// Connections that were closed without any call, since the start.
    pub silent: u64,
    /// Connections that were closed by the idle time-out, since the start.
    pub idle: u64,
}

impl Connections {
    /// The limit is that of a process with this number of `descriptors`, and at most `most`. Connections are closed after
    /// `idle_timeout` without a call in progress.
    pub fn new(
        descriptors: u64,
        most: Option<usize>,
        idle_timeout: Duration,
        limits: &Limits,
        refused_calls: RefusedCalls,
    ) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        // Half of a very low limit.
        let possible = descriptors.saturating_sub(RESERVED).max(descriptors / 2).max(1);
        let most = most.unwrap_or(usize::MAX).min(possible);
        let operators = OPERATORS.min(most / 4);
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let of_address = limits.address_connections.map_or(most - most / 8, count);
        Self {
            shared: Arc::new(Shared {
                most,
                operators,
                of_address,
                of_member: count(limits.connections),
                idle_timeout,
                book: Mutex::default(),
                refused: AtomicU64::new(0),
                silent: AtomicU64::new(0),
                idle: AtomicU64::new(0),
                refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
                refused_calls,
            }),
        }
    }

    /// The time without a call in progress after which a connection is closed; also the time-out for the next message of a client
    /// stream.
    pub fn idle_timeout(&self) -> Duration {
        self.shared.idle_timeout
    }

    /// The counts for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            open: self.book().open.len(),
            most: self.shared.most,
            refused: self.shared.refused.load(Relaxed),
            silent: self.shared.silent.load(Relaxed),
            idle: self.shared.idle.load(Relaxed),
        }
    }

    /// The admitted connections of `listener`; never ends.
    pub fn incoming(
        self,
        listener: TcpListener,
        security: Security,
    ) -> impl Stream<Item = io::Result<Connection>> {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (full, exhausted) = (Outage::default(), Outage::default());
        let acceptor = Acceptor { connections: self, listener, security, full, exhausted };
        stream::unfold((acceptor, sweep), |(mut acceptor, mut sweep)| async move {
            loop {
                tokio::select! {
                    accepted = acceptor.listener.accept() => {
                        if let Some(connection) = acceptor.admit(accepted).await {
                            return Some((Ok(connection), (acceptor, sweep)));
                        }
                    }
                    _ = sweep.tick() => acceptor.connections.close_unused(),
                }
            }
        })
    }

    fn close_unused(&self) {
        let idle_timeout = self.shared.idle_timeout;
        let Closed { silent, idle } = self.book().close_unused(Instant::now(), idle_timeout);
        if silent > 0 {
            self.shared.silent.fetch_add(silent, Relaxed);
            tracing::debug!(closed = silent, after = ?SILENT, "silent connections closed");
        }
        if idle > 0 {
            self.shared.idle.fetch_add(idle, Relaxed);
            tracing::debug!(closed = idle, after = ?idle_timeout, "idle connections closed");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn verdict(&self, local: bool, most: usize, operators: usize, now: Instant) -> Verdict {
        let places = if local { most } else { most - operators };
        // A connection that is being closed frees its place soon.
        let held = self.open.values().filter(|entry| entry.close.is_some()).count();
        if held < places {
            return Verdict::Admit;
        }
        self.replaced(now, |_| true)
    }

    /// The decision on a new connection of an address that may have `most`.
    fn verdict_on(&self, address: IpAddr, most: usize, now: Instant) -> Verdict {
        let is_its = |entry: &Entry| entry.address == address;
        let held = self.open.values().filter(|entry| is_its(entry) && entry.close.is_some()).count();
        if held < most { Verdict::Admit } else { self.replaced(now, is_its) }
    }

    /// A new connection replaces one without any call, of those that `may_be` replaced.
    fn replaced(&self, now: Instant, may_be: impl Fn(&Entry) -> bool) -> Verdict {
        let silent = |(_, entry): &(&u64, &Entry)| {
            let age = now.saturating_duration_since(entry.calls.since());
            may_be(entry) && entry.close.is_some() && entry.calls.now() == Use::Never && age >= GRACE
        };
        self.open.iter().find(silent).map_or(Verdict::Refuse, |(id, _)| Verdict::Replace(*id))
    }

    /// The member at the other end of a connection is known; `false` if it has `most` connections without this one.
    fn identify(&mut self, id: u64, member: String, most: usize) -> bool {
        let others = self.open.values().filter(|entry| entry.member.as_ref() == Some(&member));
        if others.count() >= most {
            return false;
        }
        if let Some(entry) = self.open.get_mut(&id) {
            entry.member = Some(member);
        }
        true
    }

    fn add(&mut self, now: Instant, address: IpAddr) -> (u64, Arc<Calls>, oneshot::Receiver<()>) {
        let (close, closed) = oneshot::channel();
        let calls = Arc::new(Calls::new(now));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Entry { calls: calls.clone(), address, member: None, close: Some(close) });
        (id, calls, closed)
    }

    /// Asks the owner of the connection to drop it.
    fn close(&mut self, id: u64) {
        if let Some(close) = self.open.get_mut(&id).and_then(|entry| entry.close.take()) {
            let _ = close.send(());
        }
    }

    fn close_unused(&mut self, now: Instant, idle_timeout: Duration) -> Closed {
        let mut closed = Closed::default();
        for entry in self.open.values_mut().filter(|entry| entry.close.is_some()) {
            let unused = now.saturating_duration_since(entry.calls.since());
            match entry.calls.now() {
                Use::Never if unused >= SILENT.min(idle_timeout) => closed.silent += 1,
                Use::Idle if unused >= idle_timeout => closed.idle += 1,
                _ => continue,
            }
            let _ = entry.close.take().map(|close| close.send(()));
        }
        closed
    }
}

/// Accepts or refuses new connections.
struct Acceptor {
    connections: Connections,
    listener: TcpListener,
    security: Security,
    full: Outage,
    exhausted: Outage,
}

impl Acceptor {
    async fn admit(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<Connection> {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(Failing { failures, for_secs }) = self.exhausted.failed(Instant::now()) {
                    tracing::warn!(%error, failures, for_secs, "accept failed; trying again");
                }
                tokio::time::sleep(BACK_OFF).await;
                return None;
            }
        };
        self.exhausted.works(Instant::now());
        let _ = stream.set_nodelay(true);
        let local = peer.ip().is_loopback() || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        let Shared { most, operators, of_address, .. } = *self.connections.shared;
        let mut book = self.connections.book();
        let now = Instant::now();
        let of_all = || book.verdict(local, most, operators, now);
        let verdict = match local {
            true => of_all(),
            false => match book.verdict_on(peer.ip(), of_address, now) {
                Verdict::Admit => of_all(),
                other => other,
            },
        };
        match verdict {
            Verdict::Admit => {}
            Verdict::Replace(id) => {
                book.close(id);
                self.connections.shared.silent.fetch_add(1, Relaxed);
            }
            Verdict::Refuse => {
                drop(book);
                self.refuse(stream, peer);
                return None;
            }
        }
        let (id, calls, closed) = book.add(Instant::now(), peer.ip());
        drop(book);
        if !local {
            self.full.works(Instant::now());
        }
        let slot = Slot { id, connections: self.connections.clone() };
        let tcp = stream.connect_info();
        let transport = Transport::new(stream, &self.security);
        let info = Info { tcp, calls, peer: transport.peer() };
        Some(Connection::new(transport, info, closed, slot))
    }

    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr) {
        let most = self.connections.shared.most;
        self.connections.shared.refused.fetch_add(1, Relaxed);
        if let Some(Failing { failures, for_secs }) = self.full.failed(Instant::now()) {
            tracing::warn!(
                %peer, most, failures, for_secs,
                "connections refused: limit reached; raise the limit of open files (LimitNOFILE=), or add a controller"
            );
        }
        // A client that speaks TLS could not read it.
        if !matches!(self.security, Security::PlainText) {
            return;
        }
        if let Ok(place) = self.connections.shared.refusals.clone().try_acquire_owned() {
            // The number and time of these tasks are bounded; nothing depends on their results.
            tokio::spawn(tokio::time::timeout(REFUSAL_TIMEOUT, send_reason(stream, most, place)));
        }
    }
}

/// Sends an HTTP/2 client the reason of the refusal (RFC 9113 §6.8), and waits until it has closed the connection.
async fn send_reason(mut stream: TcpStream, most: usize, _place: OwnedSemaphorePermit) -> io::Result<()> {
    let why = format!(
        "this controller has reached its limit of {most} connections; raise LimitNOFILE= of sextant-controller, or use \
         another controller"
    );
    stream.write_all(&goaway(&why)).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// The empty SETTINGS of the server, then GOAWAY with ENHANCE_YOUR_CALM.
fn goaway(why: &str) -> Vec<u8> {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let length = u32::try_from(8 + why.len()).unwrap_or(8);
    let mut octets = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    octets.extend(&length.to_be_bytes()[1..]);
    octets.extend([7, 0, 0, 0, 0, 0]);
    octets.extend(0u32.to_be_bytes());
    octets.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    octets.extend(why.as_bytes());
    octets
}

#[cfg(test)]
mod tests;
