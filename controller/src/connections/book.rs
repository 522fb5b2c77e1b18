//! The book of open connections: which new one is admitted, and which are closed. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::calls::{Calls, Use};

/// How long a connection may be open without a call.
pub(super) const SILENT: Duration = Duration::from_secs(10);
/// How long a new connection is not replaced, so that it can make its first call.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Book {
    next: u64,
    pub(super) open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    calls: Arc<Calls>,
    /// None while it is being closed.
    close: Option<oneshot::Sender<()>>,
}

/// How many connections were closed, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) silent: u64,
    pub(super) idle: u64,
}

/// The decision on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admit,
    /// It replaces this connection.
    Replace(u64),
    Refuse,
}

impl Book {
    pub(super) fn verdict(&self, local: bool, most: usize, operators: usize, now: Instant) -> Verdict {
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

    pub(super) fn add(&mut self, now: Instant) -> (u64, Arc<Calls>, oneshot::Receiver<()>) {
        let (close, closed) = oneshot::channel();
        let calls = Arc::new(Calls::new(now));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Entry { calls: calls.clone(), close: Some(close) });
        (id, calls, closed)
    }

    /// Asks the owner of the connection to drop it.
    pub(super) fn close(&mut self, id: u64) {
        if let Some(close) = self.open.get_mut(&id).and_then(|entry| entry.close.take()) {
            let _ = close.send(());
        }
    }

    pub(super) fn close_unused(&mut self, now: Instant, idle_timeout: Duration) -> Closed {
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

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

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
