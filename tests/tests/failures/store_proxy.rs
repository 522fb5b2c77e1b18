//! A proxy between controllers and an etcd member that holds back chosen requests, so that a test sets the order of events.
//!
//! HTTP/2 frames (RFC 9113 §4.1) pass unchanged and in order, but for the DATA frames of a held request. Other requests on the
//! same connection pass it. A held request that its client cancels is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_tests::{Etcd, Lab};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{self, Runtime},
    sync::{mpsc, watch},
};

/// Where it listens, beside controller 1.
const ADDRESS: &str = "[2001:db8::c:1]:2377";
/// The client's first octets on a connection (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The header of a frame.
const HEADER: usize = 9;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
/// The header of a gRPC message.
const GRPC_HEADER: usize = 5;

/// A kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A read of this key.
    Read(String),
    /// A transaction that names this key.
    Txn(String),
}

/// The proxy; it ends when it is dropped.
pub struct StoreProxy {
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    /// The requests to hold.
    chosen: watch::Sender<Vec<Request>>,
    held: Mutex<HashMap<StreamKey, Held>>,
}

/// A stream of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StreamKey {
    connection: usize,
    stream: u32,
}

struct Held {
    request: Request,
    frames: Vec<Frame>,
}

/// A frame with its header.
struct Frame(Vec<u8>);

impl StoreProxy {
    /// A proxy to the first member of `etcd`.
    pub fn start(lab: &Lab, etcd: &Etcd) -> Self {
        let shared = Arc::new(Shared { chosen: watch::Sender::default(), held: Mutex::default() });
        let member = etcd.urls().remove(0).trim_start_matches("http://").to_owned();
        // The threads start in etcd's namespace, and stay there.
        let runtime = lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build());
        let runtime = runtime.unwrap().unwrap();
        let listener = runtime.block_on(runtime.spawn(TcpListener::bind(ADDRESS))).unwrap().unwrap();
        runtime.spawn(accept(listener, member, shared.clone()));
        Self { shared, _runtime: runtime }
    }

    /// `--store` of a controller that uses it.
    pub fn store(&self) -> String {
        format!("etcd:http://{ADDRESS}")
    }

    /// Holds such requests from now on.
    pub fn hold(&self, request: Request) {
        self.shared.chosen.send_modify(|chosen| chosen.push(request));
    }

    /// Passes all held requests, and holds none from now on.
    pub fn release(&self) {
        self.shared.chosen.send_modify(Vec::clear);
    }

    /// Whether such a request is held now.
    pub fn holds(&self, request: &Request) -> bool {
        self.shared.held().values().any(|held| held.request == *request)
    }
}

impl Request {
    /// Whether the payload of a DATA frame is of such a request.
    fn is(&self, payload: &[u8]) -> bool {
        let message = payload.get(GRPC_HEADER..).unwrap_or_default();
        match self {
            Self::Read(key) => reads(message, key),
            Self::Txn(key) => {
                !reads(message, key) && message.windows(key.len()).any(|part| part == key.as_bytes())
            }
        }
    }
}

/// Whether a protobuf message begins with the field 1 of this text, as etcd's `RangeRequest` does.
fn reads(message: &[u8], key: &str) -> bool {
    let head = [0x0a, u8::try_from(key.len()).unwrap()];
    message.starts_with(&[&head[..], key.as_bytes()].concat())
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, HashMap<StreamKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame, unless it is held back.
    fn pass(&self, connection: usize, frame: Frame) -> Option<Frame> {
        let key = StreamKey { connection, stream: frame.stream() };
        let chosen = self.chosen.borrow();
        let mut held = self.held();
        match frame.kind() {
            RST_STREAM => drop(held.remove(&key)),
            DATA => {
                if let Some(held) = held.get_mut(&key) {
                    held.frames.push(frame);
                    return None;
                }
                if let Some(request) = chosen.iter().find(|request| request.is(frame.payload())) {
                    held.insert(key, Held { request: request.clone(), frames: vec![frame] });
                    return None;
                }
            }
            _ => {}
        }
        Some(frame)
    }

    /// The held frames of a connection that are not chosen any more.
    fn released(&self, connection: usize) -> Vec<Frame> {
        let chosen = self.chosen.borrow();
        let mut held = self.held();
        let released =
            held.extract_if(|key, held| key.connection == connection && !chosen.contains(&held.request));
        released.flat_map(|(_, held)| held.frames).collect()
    }
}

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut octets = vec![0; HEADER];
        from.read_exact(&mut octets).await?;
        let length = u32::from_be_bytes([0, octets[0], octets[1], octets[2]]);
        octets.resize(HEADER + usize::try_from(length).unwrap(), 0);
        from.read_exact(&mut octets[HEADER..]).await?;
        Ok(Self(octets))
    }

    fn kind(&self) -> u8 {
        self.0[3]
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.0[5], self.0[6], self.0[7], self.0[8]])
    }

    fn payload(&self) -> &[u8] {
        &self.0[HEADER..]
    }
}

/// Connects each client to the member.
async fn accept(listener: TcpListener, member: String, shared: Arc<Shared>) {
    for connection in 0.. {
        let (client, _) = listener.accept().await.unwrap();
        // A client whose member is dead loses its connection.
        if let Ok(member) = TcpStream::connect(&member).await {
            let (from_client, to_client) = client.into_split();
            let (from_member, to_member) = member.into_split();
            tokio::spawn(requests(connection, from_client, to_member, shared.clone()));
            tokio::spawn(answers(from_member, to_client));
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _closed = io::copy(&mut from, &mut to).await;
}

async fn requests(connection: usize, from: OwnedReadHalf, to: OwnedWriteHalf, shared: Arc<Shared>) {
    let (frames, received) = mpsc::channel(1);
    tokio::spawn(read(from, frames));
    let _closed = write(connection, received, to, &shared).await;
    shared.held().retain(|key, _| key.connection != connection);
}

/// Reads the preface, as if it were a frame, and all frames.
async fn read(mut from: OwnedReadHalf, frames: mpsc::Sender<Frame>) -> io::Result<()> {
    let mut preface = vec![0; PREFACE];
    from.read_exact(&mut preface).await?;
    let mut next = Frame(preface);
    while frames.send(next).await.is_ok() {
        next = Frame::read(&mut from).await?;
    }
    Ok(())
}

async fn write(
    connection: usize,
    mut frames: mpsc::Receiver<Frame>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    let mut chosen = shared.chosen.subscribe();
    loop {
        // Both are cancel safe.
        let passed = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => shared.pass(connection, frame).into_iter().collect(),
                None => return Ok(()),
            },
            _ = chosen.changed() => shared.released(connection),
        };
        for Frame(octets) in passed {
            to.write_all(&octets).await?;
        }
    }
}
