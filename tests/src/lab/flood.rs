//! A flood: datagrams to one address of a prefix after another.
//!
//! The neighbour table is one for all network namespaces of the machine, and other tests use it at the same time. A flood to
//! addresses that are resolved must not fill it: 250 datagrams a second occupy 750 of 1,024 entries at the most, and only after
//! three seconds.

use std::{
    net::{Ipv6Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use sextant_proto::Prefix;

use super::{
    namespace::Namespace,
    poll::{MILLISECONDS, try_poll},
};

/// The first addresses of a prefix are in use.
const USED: u128 = 0x1_0000;
/// The discard port.
const PORT: u16 = 9;

/// A running flood, which ends when it is dropped.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    sent: AtomicU64,
}

impl Namespace {
    /// Starts sending so many datagrams a second to unused addresses in `prefix`, each to another one.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn flood(&self, prefix: Prefix, per_second: u32) -> anyhow::Result<Flood> {
        let socket = self.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))?.context("flood")?;
        let shared = Arc::<Shared>::default();
        let sender = Arc::clone(&shared);
        let thread = thread::spawn(move || sender.send(&socket, prefix, per_second));
        Ok(Flood { shared, thread: Some(thread) })
    }
}

impl Flood {
    /// Waits until it has sent `count` more datagrams.
    ///
    /// # Errors
    /// On the deadline.
    pub fn flows(&self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let sent = || self.shared.sent.load(Ordering::SeqCst);
        let before = sent();
        try_poll(deadline, || match sent() - before {
            more if more >= count => Ok(()),
            more => Err(anyhow!("{more} datagrams were sent")),
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn send(&self, socket: &UdpSocket, prefix: Prefix, per_second: u32) {
        let (start, interval) = (Instant::now(), Duration::from_secs(1) / per_second);
        let mut number = 0;
        while !self.ended.load(Ordering::SeqCst) {
            let address = prefix.first_host().to_bits() + USED + u128::from(number);
            // The error of an earlier datagram.
            let _ = socket.send_to(b"flood", (Ipv6Addr::from_bits(address), PORT));
            number += 1;
            self.sent.store(number.into(), Ordering::SeqCst);
            let due = start + interval * number;
            thread::sleep(due.saturating_duration_since(Instant::now()).max(MILLISECONDS / 10));
        }
    }
}
