//! The network between simulated processes: connections in memory, and paths that can be blocked.
//!
//! A path that is blocked in one direction loses nothing that was sent into it: as TCP does, what was sent arrives once
//! it is open again, ends of connections too. Connecting takes both directions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{Stream, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
};
use tonic::transport::server::Connected;

/// How much a direction of a connection holds that is unread.
const ROOM: usize = 256 * 1024;

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Controller(usize),
    Host(usize),
    Operator,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(number) => write!(f, "c{}", number + 1),
            Self::Host(number) => write!(f, "h{}", number + 1),
            Self::Operator => f.write_str("operator"),
        }
    }
}

/// The network; its clones are the same one.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, (Place, mpsc::UnboundedSender<Connection>)>,
    blocked: BTreeSet<(Place, Place)>,
    pipes: Vec<std::sync::Weak<Pipe>>,
}

impl Network {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(()) }
    }

    /// From now on, connections to `address` come to `place`.
    pub fn listen(&self, address: &str, place: Place) -> impl Stream<Item = io::Result<Connection>> + use<> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().listeners.insert(address.to_owned(), (place, sender));
        futures::stream::unfold(receiver, |mut receiver| async move {
            let connection = receiver.recv().await?;
            Some((Ok(connection), receiver))
        })
    }

    /// Nothing `from` arrives at `to` until [`Network::open`].
    pub fn block(&self, from: Place, to: Place) {
        self.state().blocked.insert((from, to));
    }

    /// Ends a [`Network::block`].
    pub fn open(&self, from: Place, to: Place) {
        let pipes: Vec<_> = {
            let mut state = self.state();
            state.blocked.remove(&(from, to));
            state.pipes.retain(|pipe| pipe.strong_count() > 0);
            state.pipes.iter().filter_map(std::sync::Weak::upgrade).collect()
        };
        pipes.iter().for_each(|pipe| pipe.wake());
        self.changed.send_replace(());
    }

    /// Whether both directions carry.
    pub fn connects(&self, one: Place, other: Place) -> bool {
        !self.is_blocked(one, other) && !self.is_blocked(other, one)
    }

    fn is_blocked(&self, from: Place, to: Place) -> bool {
        self.state().blocked.contains(&(from, to))
    }

    /// Connects to who listens at `address`. Waits as long as the path is blocked.
    pub fn connect(&self, from: Place, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let (network, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let mut changed = network.changed.subscribe();
            loop {
                let listener = network.state().listeners.get(&address).cloned();
                let (to, accepts) = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
                if network.connects(from, to) {
                    let (ours, theirs) = network.pair(from, to);
                    accepts.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
                    return Ok(ours);
                }
                changed.changed().await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            }
        })
    }

    fn pair(&self, from: Place, to: Place) -> (Connection, Connection) {
        let (there, back) = (self.pipe(from, to), self.pipe(to, from));
        let ours = Connection { reads: back.clone(), writes: there.clone() };
        (ours, Connection { reads: there, writes: back })
    }

    fn pipe(&self, from: Place, to: Place) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe { network: self.clone(), from, to, ends: Mutex::default() });
        self.state().pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One direction of a connection.
struct Pipe {
    network: Network,
    from: Place,
    to: Place,
    ends: Mutex<Ends>,
}

#[derive(Default)]
struct Ends {
    octets: VecDeque<u8>,
    /// Nothing more is written.
    finished: bool,
    /// Nobody reads any more.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let mut ends = self.ends();
        let wakers = [ends.reader.take(), ends.writer.take()];
        drop(ends);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn carries(&self) -> bool {
        !self.network.is_blocked(self.from, self.to)
    }
}

/// One end of a connection.
pub struct Connection {
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let carries = self.reads.carries();
        let mut ends = self.reads.ends();
        if carries && !ends.octets.is_empty() {
            let length = buffer.remaining().min(ends.octets.len());
            let octets: Vec<u8> = ends.octets.drain(..length).collect();
            buffer.put_slice(&octets);
            if let Some(writer) = ends.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        if carries && ends.finished {
            return Poll::Ready(Ok(()));
        }
        ends.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        // The return path shows that the other end is gone.
        let learnt = self.reads.carries() && self.writes.carries();
        let mut ends = self.writes.ends();
        if ends.abandoned && learnt {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = ROOM.saturating_sub(ends.octets.len());
        if room == 0 {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = room.min(octets.len());
        ends.octets.extend(&octets[..length]);
        if let Some(reader) = ends.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.ends().finished = true;
        self.writes.wake();
        Poll::Ready(Ok(()))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.writes.ends().finished = true;
        self.writes.wake();
        self.reads.ends().abandoned = true;
        self.reads.wake();
    }
}
