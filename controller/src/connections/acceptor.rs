//! Accepts new connections, or refuses them with the reason.

use std::{io, net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};

use sextant_daemon::{Failing, Outage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    time::Instant,
};

use super::{
    Connections, Security, Shared,
    book::Verdict,
    connection::{Connection, Slot},
};

/// How long sending the reason to a refused peer may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Accepts or refuses new connections.
pub(super) struct Acceptor {
    pub(super) connections: Connections,
    pub(super) listener: TcpListener,
    security: Security,
    full: Outage,
    exhausted: Outage,
}

impl Acceptor {
    pub(super) fn new(connections: Connections, listener: TcpListener, security: Security) -> Self {
        let (full, exhausted) = (Outage::default(), Outage::default());
        Self { connections, listener, security, full, exhausted }
    }

    pub(super) async fn admit(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<Connection> {
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
        Some(Connection::new(stream, &self.security, calls, closed, slot))
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
