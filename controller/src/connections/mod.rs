//! The connections of agents and operators: their limit, and which are closed.
//!
//! File descriptors are limited. The limit of connections leaves enough of them for the store, probes and other controllers.
//! The last connections below the limit are reserved for clients on this host: an operator can connect however many agents
//! there are. A connection without any call is closed after [`SILENT`], or after [`GRACE`] if a new connection needs its place. A
//! connection without a call in progress is closed after the idle time-out, even if it answers pings; an agent's stream is a call
//! in progress. A refused peer receives a GOAWAY with the reason.

mod calls;
mod transport;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, Stream, stream};
use sextant_daemon::{Failing, Outage};
use sextant_identity::{Credentials, Peer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, MissedTickBehavior},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

pub(crate) use self::calls::CountCalls;
use self::{
    calls::{Calls, Use},
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

/// All connections of the gRPC server.
#[derive(Debug, Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    operators: usize,
    idle_timeout: Duration,
    book: Mutex<Book>,
    refused: AtomicU64,
    silent: AtomicU64,
    idle: AtomicU64,
    refusals: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    calls: Arc<Calls>,
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
    pub fn new(descriptors: u64, most: Option<usize>, idle_timeout: Duration) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        // Half of a very low limit.
        let possible = descriptors.saturating_sub(RESERVED).max(descriptors / 2).max(1);
        let most = most.unwrap_or(usize::MAX).min(possible);
        let operators = OPERATORS.min(most / 4);
        Self {
            shared: Arc::new(Shared {
                most,
                operators,
                idle_timeout,
                book: Mutex::default(),
                refused: AtomicU64::new(0),
                silent: AtomicU64::new(0),
                idle: AtomicU64::new(0),
                refusals: Arc::new(Semaphore::new(REFUSALS_AT_ONCE)),
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

    /// The admitted connections of `listener`, over TLS if there are credentials; never ends.
    pub fn incoming(
        self,
        listener: TcpListener,
        credentials: Option<Arc<Credentials>>,
    ) -> impl Stream<Item = io::Result<Connection>> {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (full, exhausted) = (Outage::default(), Outage::default());
        let acceptor = Acceptor { connections: self, listener, credentials, full, exhausted };
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
        let silent = |(_, entry): &(&u64, &Entry)| {
            let age = now.saturating_duration_since(entry.calls.since());
            entry.close.is_some() && entry.calls.now() == Use::Never && age >= GRACE
        };
        self.open.iter().find(silent).map_or(Verdict::Refuse, |(id, _)| Verdict::Replace(*id))
    }

    fn add(&mut self, now: Instant) -> (u64, Arc<Calls>, oneshot::Receiver<()>) {
        let (close, closed) = oneshot::channel();
        let calls = Arc::new(Calls::new(now));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Entry { calls: calls.clone(), close: Some(close) });
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
    credentials: Option<Arc<Credentials>>,
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
        let Shared { most, operators, .. } = *self.connections.shared;
        let mut book = self.connections.book();
        match book.verdict(local, most, operators, Instant::now()) {
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
        let (id, calls, closed) = book.add(Instant::now());
        drop(book);
        if !local {
            self.full.works(Instant::now());
        }
        let slot = Slot { id, connections: self.connections.clone() };
        let tcp = stream.connect_info();
        let transport = Transport::new(stream, self.credentials.as_deref());
        let info = Info { tcp, calls, peer: transport.peer() };
        Some(Connection { transport, info, closed: Some(closed), _slot: slot })
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
        if self.credentials.is_some() {
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

/// A place below the limit; dropping it frees the place.
#[derive(Debug)]
struct Slot {
    id: u64,
    connections: Connections,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.book().open.remove(&self.id);
    }
}

/// An admitted connection.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    info: Info,
    closed: Option<oneshot::Receiver<()>>,
    _slot: Slot,
}

/// The connection of a call.
#[derive(Debug, Clone)]
pub struct Info {
    tcp: TcpConnectInfo,
    calls: Arc<Calls>,
    /// Who is at the other end; none over plain text.
    peer: Option<Peer>,
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(closed) = &mut self.closed
            && closed.poll_unpin(context).is_ready()
        {
            self.closed = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn descriptors_are_reserved_for_others() {
        let most = |descriptors, most| Connections::new(descriptors, most, IDLE).counts().most;
        assert_eq!(most(1024, None), 928);
        assert_eq!(most(1024, Some(100)), 100);
        assert_eq!(most(1024, Some(2000)), 928);
        assert_eq!(most(64, None), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_places_are_for_this_host_and_silent_connections_are_replaced() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut open = Vec::new();
        for _ in 0..6 {
            assert_eq!(book.verdict(false, 8, 2, now), Verdict::Admit);
            open.push(book.add(Instant::now()));
        }
        let calls = |number: usize| open[number].1.begin();
        let _kept: Vec<_> = (1..6).map(calls).collect();
        assert_eq!(book.verdict(false, 8, 2, now), Verdict::Refuse, "it has time for its first call");
        let now = now + GRACE;
        assert_eq!(book.verdict(false, 8, 2, now), Verdict::Replace(open[0].0), "the silent one");
        drop(calls(0));
        assert_eq!(book.verdict(false, 8, 2, now), Verdict::Refuse);
        assert_eq!(book.verdict(true, 8, 2, now), Verdict::Admit, "an operator on this host");
        let (closing, _, closed) = &mut open[3];
        book.close(*closing);
        assert!(closed.try_recv().is_ok());
        assert_eq!(book.verdict(false, 8, 2, now), Verdict::Admit, "it is being closed");
    }

    #[tokio::test(start_paused = true)]
    async fn unused_connections_are_closed() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut add = || book.add(now);
        let ((_, streams, _kept), (_, _, mut silent), (_, calls, mut idle)) = (add(), add(), add());
        let stream = streams.begin();
        let (first, second) = (calls.begin(), calls.begin());
        let mut close = |after: Duration| {
            let Closed { silent, idle } = book.close_unused(now + after, IDLE);
            (silent, idle)
        };
        assert_eq!(close(SILENT / 2), (0, 0));
        assert_eq!(close(SILENT), (1, 0));
        assert!(silent.try_recv().is_ok());
        tokio::time::advance(IDLE).await;
        drop(first);
        assert_eq!(close(3 * IDLE), (0, 0), "a call is still in progress on each");
        drop(second);
        assert_eq!(close(IDLE + IDLE / 2), (0, 0));
        assert_eq!(close(2 * IDLE), (0, 1));
        assert!(idle.try_recv().is_ok());
        assert_eq!(close(9 * IDLE), (0, 0), "once; the stream stays");
        drop(stream);
        assert_eq!(close(9 * IDLE), (0, 1));
    }
}
