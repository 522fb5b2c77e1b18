//! Requests to the kernel, one at a time: each waits for the whole answer before the next one is sent.
//!
//! Changes and dumps share one socket. So our own changes do not interrupt our own dumps: after a change of the table, an
//! IPv6 dump continues by counting routes, and may silently skip one (`fib6_dump_table` in net/ipv6/ip6_fib.c sets no
//! NLM_F_DUMP_INTR).

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::{
    super::{Change, Errno, KernelError},
    batch,
    dump::{self, Sink},
    socket::{KernelSocket, RECEIVE_BUFFER},
};

/// Requests to the kernel, one at a time.
pub struct Conversation {
    socket: Mutex<Option<KernelSocket>>,
    port: watch::Sender<u32>,
}

/// Exclusive use of the socket. Only [`Turn::finish`] returns the socket: a request that fails or is cancelled drops it, so
/// that no later request reads its answers.
struct Turn<'a> {
    home: MutexGuard<'a, Option<KernelSocket>>,
    socket: KernelSocket,
}

impl Conversation {
    /// Opens the socket, in the network namespace of the calling thread.
    pub fn open() -> Result<Self, KernelError> {
        let port = watch::Sender::new(0);
        let socket = open(&port)?;
        Ok(Self { socket: Mutex::new(Some(socket)), port })
    }

    /// The netlink port that our changes come from; it changes when the socket is opened again.
    pub fn port(&self) -> watch::Receiver<u32> {
        self.port.subscribe()
    }

    /// Applies the changes in order; see [`super::super::Kernel::apply`].
    pub async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
        let turn = self.turn().await?;
        let done = batch::apply(&turn.socket, changes).await;
        turn.finish(done)
    }

    /// Sends one request, and reads its acknowledgement; `flags` besides NLM_F_REQUEST and NLM_F_ACK.
    pub async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Result<(), Errno>, KernelError> {
        let turn = self.turn().await?;
        let done = batch::request(&turn.socket, message, flags).await;
        turn.finish(done)
    }

    /// Passes the messages of a dump, of the type `kind`, to `sink`.
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

    /// Passes the answer to `request`, of the type `kind`, to `sink`; nothing if the answer has another type.
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

fn open(port: &watch::Sender<u32>) -> Result<KernelSocket, KernelError> {
    let socket =
        KernelSocket::open(&[], RECEIVE_BUFFER).map_err(|error| broken("open the socket", &error))?;
    port.send_replace(socket.port());
    Ok(socket)
}

/// The error of a socket that fails; `action` is a verb with its object.
pub fn broken(action: &str, error: &io::Error) -> KernelError {
    KernelError::Broken(format!("cannot {action}: {error}"))
}
