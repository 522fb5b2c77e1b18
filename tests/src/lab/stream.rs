//! A stream of numbered UDP datagrams from one container to another and back: counts the losses of an outage.
//!
//! Three threads: a sender, an echo and a receiver. They end when the stream is finished or dropped.

use std::{
    collections::BTreeSet,
    fmt,
    io::ErrorKind,
    net::UdpSocket,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};

use super::{
    host::Container,
    poll::{MILLISECONDS, SECONDS, try_poll},
};

/// The interval at which the threads check whether the stream has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A running stream.
#[derive(Debug)]
pub struct UdpStream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    interval: Duration,
}

/// The result of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// The datagrams sent, including those that the kernel refused to send.
    pub sent: u64,
    /// The datagrams that arrived at the other container.
    pub echoed: u64,
    /// The datagrams that returned.
    pub received: u64,
    /// The numbers of the datagrams that did not return. Datagram `n` was sent `n` intervals after the start.
    pub lost: Vec<u64>,
    /// The time between two datagrams.
    pub interval: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    /// Stops the sender.
    finished: AtomicBool,
    /// Stops the other threads.
    ended: AtomicBool,
    sent: AtomicU64,
    echoed: AtomicU64,
    received: Mutex<BTreeSet<u64>>,
}

impl Container {
    /// Starts sending a datagram to `other` every `interval`; `other` returns each.
    ///
    /// # Errors
    /// If a container is gone.
    pub fn udp_stream(&self, other: &Container, interval: Duration) -> anyhow::Result<UdpStream> {
        let near = self.enter(|| UdpSocket::bind((self.address(), 0)))?.context("sender")?;
        let far = other.enter(|| UdpSocket::bind((other.address(), 0)))?.context("echo")?;
        near.connect(far.local_addr()?)?;
        near.set_read_timeout(Some(CHECK_INTERVAL))?;
        far.set_read_timeout(Some(CHECK_INTERVAL))?;
        let shared = Arc::<Shared>::default();
        let (sender, receiver, echo) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let reading = near.try_clone()?;
        let threads = vec![
            thread::spawn(move || sender.send(&near, interval)),
            thread::spawn(move || receiver.receive(&reading)),
            thread::spawn(move || echo.echo(&far)),
        ];
        Ok(UdpStream { shared, threads, interval })
    }
}

impl UdpStream {
    /// The numbers of datagrams sent and returned so far.
    pub fn progress(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::SeqCst), self.shared.received().len() as u64)
    }

    /// Waits until `count` more datagrams have returned.
    ///
    /// # Errors
    /// On the deadline.
    pub fn flows(&self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let (_, before) = self.progress();
        try_poll(deadline, || match self.progress() {
            (_, received) if received >= before + count => Ok(()),
            (sent, received) => Err(anyhow!("{received} of {sent} datagrams have returned")),
        })
    }

    /// Stops sending, waits up to a second for datagrams in flight, and returns the report.
    ///
    /// # Errors
    /// If nothing was sent.
    pub fn finish(mut self) -> anyhow::Result<StreamReport> {
        self.shared.finished.store(true, Ordering::SeqCst);
        self.threads.remove(0).join().map_err(|_| anyhow!("the sender has panicked"))?;
        let (sent, _) = self.progress();
        // Datagrams that return later count as lost.
        let _ = try_poll(SECONDS, || match self.progress() {
            (sent, received) if received >= sent => Ok(()),
            _ => Err(()),
        });
        self.end();
        let received = self.shared.received();
        ensure!(sent > 0, "nothing was sent");
        Ok(StreamReport {
            sent,
            echoed: self.shared.echoed.load(Ordering::SeqCst),
            received: received.len() as u64,
            lost: (0..sent).filter(|number| !received.contains(number)).collect(),
            interval: self.interval,
        })
    }

    fn end(&mut self) {
        self.shared.finished.store(true, Ordering::SeqCst);
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        self.end();
    }
}

impl StreamReport {
    /// `Ok` if every datagram returned.
    ///
    /// # Errors
    /// If not, with the report.
    pub fn nothing_lost(&self) -> anyhow::Result<()> {
        ensure!(self.lost.is_empty(), "{self}; lost: {:?}", self.lost);
        Ok(())
    }

    /// The longest time without a returned datagram.
    pub fn longest_outage(&self) -> Duration {
        let (mut longest, mut run, mut last) = (0, 0, None);
        for &number in &self.lost {
            run = if last == Some(number.wrapping_sub(1)) { run + 1 } else { 1 };
            longest = longest.max(run);
            last = Some(number);
        }
        self.interval * longest
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, outage) = (self.lost.len(), self.longest_outage());
        write!(
            f,
            "{} sent, {} echoed, {} returned, {lost} lost, longest outage {outage:?}",
            self.sent, self.echoed, self.received
        )
    }
}

impl Shared {
    fn received(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, socket: &UdpSocket, interval: Duration) {
        let mut due = Instant::now();
        let mut number: u64 = 0;
        while !self.finished.load(Ordering::SeqCst) {
            // The error may be the ICMPv6 error of an earlier datagram; then this one has not been sent yet. A datagram that
            // is refused twice is lost.
            let datagram = number.to_be_bytes();
            if socket.send(&datagram).is_err() {
                let _ = socket.send(&datagram);
            }
            number += 1;
            self.sent.store(number, Ordering::SeqCst);
            due += interval;
            thread::sleep(due.saturating_duration_since(Instant::now()).max(MILLISECONDS / 10));
        }
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut datagram = [0; 8];
        while !self.ended.load(Ordering::SeqCst) {
            match socket.recv(&mut datagram) {
                Ok(8) => drop(self.received().insert(u64::from_be_bytes(datagram))),
                Err(error) if error.kind() != ErrorKind::WouldBlock => thread::sleep(MILLISECONDS),
                _ => {}
            }
        }
    }

    fn echo(&self, socket: &UdpSocket) {
        let mut datagram = [0; 8];
        while !self.ended.load(Ordering::SeqCst) {
            if let Ok((8, from)) = socket.recv_from(&mut datagram) {
                self.echoed.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&datagram, from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_outage_is_the_longest_run_of_lost_datagrams() {
        let report = StreamReport {
            sent: 10,
            echoed: 5,
            received: 5,
            lost: vec![0, 3, 4, 5, 9],
            interval: 5 * MILLISECONDS,
        };
        assert_eq!(report.longest_outage(), 15 * MILLISECONDS);
    }
}
