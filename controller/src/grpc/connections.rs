//! The connections of agents and operators: how many there may be, and which are given up.
//!
//! Descriptors are few. So there is a number of connections that leaves enough of them for the store, for probes and for
//! other controllers, and the last of that number are for this host itself: an operator gets in however many agents there are.
//! A connection without any call for [`SILENT`] is closed, and at once where its place is needed. One that made a call is kept as
//! long as it answers HTTP/2 pings. A refused peer receives a GOAWAY with the reason.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, Stream, stream};
use sextant_proto::daemon::{Failing, Outage};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, MissedTickBehavior},
};
use tonic::{
    Request, Status,
    transport::server::{Connected, TcpConnectInfo},
};

/// How long a connection may be open without a call.
const SILENT: Duration = Duration::from_secs(10);
/// How often silent ones are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Descriptors that are left for the store, probes and other controllers.
const OTHERS: usize = 96;
/// Places that only this host's own connections take.
const OPERATORS: usize = 16;
/// How many refused peers receive a reason at the same time; further connections are closed without one.
const TOLD_AT_ONCE: usize = 16;
/// How long a refused peer may take to hear it.
const TELLING: Duration = Duration::from_secs(1);
/// How long to wait where the kernel has no descriptor.
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
    book: Mutex<Book>,
    refused: AtomicU64,
    closed: AtomicU64,
    telling: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    called: Arc<AtomicBool>,
    /// None once it is being closed.
    close: Option<oneshot::Sender<()>>,
}

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Admit,
    /// In the place of this one.
    Instead(u64),
    Refuse,
}

/// Counts for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Those that are open.
    pub open: usize,
    /// How many there may be.
    pub most: usize,
    /// Those that found no place, since the start.
    pub refused: u64,
    /// Those that were closed without a call, since the start.
    pub closed: u64,
}

impl Connections {
    /// As many as a process with so many `descriptors` can have, and not more than `most`.
    pub fn new(descriptors: u64, most: Option<usize>) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        // Of a limit that is very low, half.
        let possible = descriptors.saturating_sub(OTHERS).max(descriptors / 2).max(1);
        let most = most.unwrap_or(usize::MAX).min(possible);
        let operators = OPERATORS.min(most / 4);
        let (book, refused, closed) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        let telling = Arc::new(Semaphore::new(TOLD_AT_ONCE));
        Self { shared: Arc::new(Shared { most, operators, book, refused, closed, telling }) }
    }

    /// How many there are, and were.
    pub fn counts(&self) -> Counts {
        Counts {
            open: self.book().open.len(),
            most: self.shared.most,
            refused: self.shared.refused.load(Relaxed),
            closed: self.shared.closed.load(Relaxed),
        }
    }

    /// The connections of `listener` that find a place; never ends.
    pub fn incoming(self, listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let door =
            Door { connections: self, listener, full: Outage::default(), exhausted: Outage::default() };
        stream::unfold((door, sweep), |(mut door, mut sweep)| async move {
            loop {
                tokio::select! {
                    accepted = door.listener.accept() => {
                        if let Some(connection) = door.take(accepted).await {
                            return Some((Ok(connection), (door, sweep)));
                        }
                    }
                    _ = sweep.tick() => door.connections.close_silent(),
                }
            }
        })
    }

    fn close_silent(&self) {
        let closed = self.book().close_silent(Instant::now());
        if closed > 0 {
            self.shared.closed.fetch_add(closed, Relaxed);
            tracing::debug!(closed, after = ?SILENT, "connections without a call closed");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn verdict(&self, local: bool, most: usize, operators: usize) -> Verdict {
        let places = if local { most } else { most - operators };
        // One that is being closed gives its place soon.
        let held = self.open.values().filter(|entry| entry.close.is_some()).count();
        if held < places {
            return Verdict::Admit;
        }
        let silent = |(_, entry): &(&u64, &Entry)| entry.close.is_some() && !entry.called.load(Relaxed);
        self.open.iter().find(silent).map_or(Verdict::Refuse, |(id, _)| Verdict::Instead(*id))
    }

    fn add(&mut self, now: Instant) -> (u64, Arc<AtomicBool>, oneshot::Receiver<()>) {
        let (close, closed) = oneshot::channel();
        let called = Arc::new(AtomicBool::new(false));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Entry { since: now, called: called.clone(), close: Some(close) });
        (id, called, closed)
    }

    /// It is dropped by its owner soon.
    fn close(&mut self, id: u64) {
        if let Some(close) = self.open.get_mut(&id).and_then(|entry| entry.close.take()) {
            let _ = close.send(());
        }
    }

    fn close_silent(&mut self, now: Instant) -> u64 {
        let silent = |entry: &Entry| {
            entry.close.is_some() && !entry.called.load(Relaxed) && now.duration_since(entry.since) >= SILENT
        };
        let silent: Vec<_> = self.open.iter().filter(|(_, entry)| silent(entry)).map(|(id, _)| *id).collect();
        silent.iter().for_each(|id| self.close(*id));
        silent.len() as u64
    }
}

/// Where connections come in.
struct Door {
    connections: Connections,
    listener: TcpListener,
    full: Outage,
    exhausted: Outage,
}

impl Door {
    async fn take(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<Connection> {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(Failing { failures, for_secs }) = self.exhausted.failed(Instant::now()) {
                    tracing::warn!(%error, failures, for_secs, "connection cannot be accepted; trying again");
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
        match book.verdict(local, most, operators) {
            Verdict::Admit => {}
            Verdict::Instead(id) => {
                book.close(id);
                self.connections.shared.closed.fetch_add(1, Relaxed);
            }
            Verdict::Refuse => {
                drop(book);
                self.refuse(stream, peer);
                return None;
            }
        }
        let (id, called, closed) = book.add(Instant::now());
        drop(book);
        if !local {
            self.full.works(Instant::now());
        }
        let slot = Slot { id, connections: self.connections.clone() };
        Some(Connection { stream, called, closed: Some(closed), _slot: slot })
    }

    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr) {
        let most = self.connections.shared.most;
        self.connections.shared.refused.fetch_add(1, Relaxed);
        if let Some(Failing { failures, for_secs }) = self.full.failed(Instant::now()) {
            tracing::warn!(
                %peer, most, failures, for_secs,
                "connections refused: all places are taken; raise the limit of open files (LimitNOFILE=), or add a controller"
            );
        }
        if let Ok(place) = self.connections.shared.telling.clone().try_acquire_owned() {
            // Bounded by its places and by time; nothing depends on how it ends.
            tokio::spawn(tokio::time::timeout(TELLING, tell_full(stream, most, place)));
        }
    }
}

/// Tells an HTTP/2 client why it is turned away (RFC 9113 §6.8), and waits until it has closed.
async fn tell_full(mut stream: TcpStream, most: usize, _place: OwnedSemaphorePermit) -> io::Result<()> {
    let why = format!(
        "this controller has {most} connections, which is all that its limit of open files allows; \
         raise LimitNOFILE= of sextant-controller, or use another controller"
    );
    stream.write_all(&goaway(&why)).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// The server's SETTINGS, empty, then GOAWAY with ENHANCE_YOUR_CALM.
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

/// A place that is given back.
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

/// A connection that has a place.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    called: Arc<AtomicBool>,
    closed: Option<oneshot::Receiver<()>>,
    _slot: Slot,
}

/// What calls know of their connection.
#[derive(Debug, Clone)]
pub struct Info {
    tcp: TcpConnectInfo,
    called: Arc<AtomicBool>,
}

/// Each call passes here: its connection is not silent.
#[allow(clippy::result_large_err)]
pub(super) fn note_call(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(info) = request.extensions().get::<Info>().cloned() {
        info.called.store(true, Relaxed);
        request.extensions_mut().insert(info.tcp);
    }
    Ok(request)
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        Info { tcp: self.stream.connect_info(), called: self.called.clone() }
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_others() {
        let most = |descriptors, most| Connections::new(descriptors, most).counts().most;
        assert_eq!(most(1024, None), 928);
        assert_eq!(most(1024, Some(100)), 100);
        assert_eq!(most(1024, Some(2000)), 928);
        assert_eq!(most(64, None), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_places_are_this_hosts_and_silent_connections_give_theirs() {
        let mut book = Book::default();
        let mut calls = Vec::new();
        for _ in 0..6 {
            assert_eq!(book.verdict(false, 8, 2), Verdict::Admit);
            let (id, called, closed) = book.add(Instant::now());
            calls.push((id, called, closed));
        }
        assert_eq!(book.verdict(false, 8, 2), Verdict::Instead(calls[0].0), "the oldest silent one");
        calls.iter().for_each(|(_, called, _)| called.store(true, Relaxed));
        assert_eq!(book.verdict(false, 8, 2), Verdict::Refuse);
        assert_eq!(book.verdict(true, 8, 2), Verdict::Admit, "an operator on this host");
        calls[3].1.store(false, Relaxed);
        book.close(calls[3].0);
        assert!(calls[3].2.try_recv().is_ok());
        assert_eq!(book.verdict(false, 8, 2), Verdict::Admit, "it is being closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_closed_in_time() {
        let mut book = Book::default();
        let (_, called, _kept) = book.add(Instant::now());
        let (_, _, mut silent) = book.add(Instant::now());
        called.store(true, Relaxed);
        assert_eq!(book.close_silent(Instant::now() + SILENT / 2), 0);
        assert_eq!(book.close_silent(Instant::now() + SILENT), 1);
        assert!(silent.try_recv().is_ok());
        assert_eq!(book.close_silent(Instant::now() + SILENT), 0, "once");
    }
}
