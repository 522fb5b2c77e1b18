//! The connections of agents and operators: their limit, and which are closed.
//!
//! File descriptors are limited. The limit of connections leaves enough of them for the store, probes and other controllers.
//! The last connections below the limit are reserved for clients on this host: an operator can connect however many agents
//! there are. A connection without any call is closed after ten seconds, or after one if a new connection needs its place. A
//! connection without a call in progress is closed after the idle time-out, even if it answers pings; an agent's stream is a call
//! in progress. One address, and one member, has a part of the places only. A refused peer receives a GOAWAY with the reason.

mod acceptor;
mod book;
mod calls;
mod connection;
mod transport;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{Stream, stream};
use sextant_identity::Credentials;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, MissedTickBehavior},
};

use crate::{audit::RefusedCalls, limits::Limits};

pub(crate) use self::calls::CountCalls;
pub use self::connection::{Connection, Info};
use self::{
    acceptor::Acceptor,
    book::{Book, Closed, SILENT},
};

/// How often unused connections are closed.
const SWEEP: Duration = Duration::from_secs(1);
/// Descriptors that are reserved for the store, probes and other controllers.
const RESERVED: usize = 96;
/// Places that are reserved for connections from this host.
const OPERATORS: usize = 16;
/// How many refused peers receive a reason at the same time; further ones are closed without a reason.
const REFUSALS_AT_ONCE: usize = 16;

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
        let acceptor = Acceptor::new(self, listener, security);
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

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn descriptors_are_reserved_for_others() {
        let most = |descriptors, most| {
            Connections::new(descriptors, most, IDLE, &Limits::default(), RefusedCalls::default())
                .counts()
                .most
        };
        assert_eq!(most(1024, None), 928);
        assert_eq!(most(1024, Some(100)), 100);
        assert_eq!(most(1024, Some(2000)), 928);
        assert_eq!(most(64, None), 32);
    }

    #[test]
    fn agents_behind_one_address_leave_an_eighth() {
        let shares = |most| {
            Connections::new(10_000, Some(most), IDLE, &Limits::default(), RefusedCalls::default())
                .shared
                .of_address
        };
        assert_eq!((shares(2400), shares(8)), (2100, 7), "agents behind one address leave an eighth");
    }
}
