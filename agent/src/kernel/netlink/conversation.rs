//! The one conversation with the kernel: who asks waits for the whole answer before anyone else asks.
//!
//! Changes and dumps take turns on one socket. That keeps our own changes out of our own dumps: an IPv6 dump that goes on
//! after a change of the table counts its way back to where it was, so it may skip a route, and does not say so
//! (`fib6_dump_table` in net/ipv6/ip6_fib.c sets no NLM_F_DUMP_INTR).

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::{
    super::{Change, Errno, KernelError},
    batch,
    dump::{self, Sink},
    socket::{RECEIVE_BUFFER, RouteSocket},
};

/// Requests to the kernel, one at a time.
pub struct Conversation {
    socket: Mutex<Option<RouteSocket>>,
    port: watch::Sender<u32>,
}

/// The right to ask. The socket goes back with [`Turn::finish`] only: what fails or is cancelled half-way takes its socket
/// along, so that nobody ever reads the answer to another's question.
struct Turn<'a> {
    home: MutexGuard<'a, Option<RouteSocket>>,
    socket: RouteSocket,
}

impl Conversation {
    /// Opens the socket, in the network namespace of the calling thread.
    pub fn open() -> Result<Self, KernelError> {
        let port = watch::Sender::new(0);
        let socket = open(&port)?;
        Ok(Self { socket: Mutex::new(Some(socket)), port })
    }

    /// The port that our changes come from; another one after the conversation broke.
    pub fn port(&self) -> watch::Receiver<u32> {
        self.port.subscribe()
    }

    /// Does the changes in their order; see [`super::super::Kernel::apply`].
    pub async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
        let turn = self.turn().await?;
        let done = batch::apply(&turn.socket, changes).await;
        turn.finish(done)
    }

    /// Makes one request that is answered by an acknowledgement; `flags` beside NLM_F_REQUEST and NLM_F_ACK.
    pub async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Result<(), Errno>, KernelError> {
        let turn = self.turn().await?;
        let done = batch::request(&turn.socket, message, flags).await;
        turn.finish(done)
    }

    /// Has `sink` take in all of what `request` asks for: messages of the type `kind`.
    pub async fn dump(
        &self,
        request: &RouteNetlinkMessage,
        kind: u16,
        sink: &mut dyn Sink,
    ) -> Result<Result<(), Errno>, KernelError> {
        let turn = self.turn().await?;
        let done = dump::dump(&turn.socket, request, kind, sink).await;
        turn.finish(done)
    }

    /// Has `sink` take in the one thing that `request` asks for: nothing if the kernel's answer has none of the type `kind`.
    pub async fn get(
        &self,
        request: &RouteNetlinkMessage,
        kind: u16,
        sink: &mut dyn Sink,
    ) -> Result<Result<(), Errno>, KernelError> {
        let turn = self.turn().await?;
        let done = dump::get(&turn.socket, request, kind, sink).await;
        turn.finish(done)
    }

    async fn turn(&self) -> Result<Turn<'_>, KernelError> {
        let mut home = self.socket.lock().await;
        let socket = match home.take() {
            Some(socket) => socket,
            None => open(&self.port)?,
        };
        Ok(Turn { home, socket })
    }
}

impl Turn<'_> {
    fn finish<T>(mut self, done: Result<T, KernelError>) -> Result<T, KernelError> {
        if done.is_ok() {
            *self.home = Some(self.socket);
        }
        done
    }
}

fn open(port: &watch::Sender<u32>) -> Result<RouteSocket, KernelError> {
    let socket = RouteSocket::open(&[], RECEIVE_BUFFER).map_err(|error| broken("open a socket", &error))?;
    port.send_replace(socket.port());
    Ok(socket)
}

/// What to tell about a socket that fails.
pub fn broken(what: &str, error: &io::Error) -> KernelError {
    KernelError::Broken(format!("cannot {what}: {error}"))
}
