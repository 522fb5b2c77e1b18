//! The book of open connections: which new one is admitted, and which are closed. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

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
    address: IpAddr,
    /// The member at the other end, once that is known.
    member: Option<String>,
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
        self.replaced(now, |_| true)
    }

    /// The decision on a new connection of an address that may have `most`.
    pub(super) fn verdict_on(&self, address: IpAddr, most: usize, now: Instant) -> Verdict {
        let is_its = |entry: &Entry| entry.address == address;
        let held = self.open.values().filter(|entry| is_its(entry) && entry.close.is_some()).count();
        if held < most { Verdict::Admit } else { self.replaced(now, is_its) }
    }

    /// A new connection replaces one without any call, of those that `may_be` replaced.
    fn replaced(&self, now: Instant, may_be: impl Fn(&Entry) -> bool) -> Verdict {
        let silent = |(_, entry): &(&u64, &Entry)| {
            let age = now.saturating_duration_since(entry.calls.since());
            may_be(entry) && entry.close.is_some() && entry.calls.now() == Use::Never && age >= GRACE
        };
        self.open.iter().find(silent).map_or(Verdict::Refuse, |(id, _)| Verdict::Replace(*id))
    }

    /// The member at the other end of a connection is known; `false` if it has `most` connections without this one.
    pub(super) fn identify(&mut self, id: u64, member: String, most: usize) -> bool {
        let others = self.open.values().filter(|entry| entry.member.as_ref() == Some(&member));
        if others.count() >= most {
            return false;
        }
        if let Some(entry) = self.open.get_mut(&id) {
            entry.member = Some(member);
        }
        true
    }

    pub(super) fn add(&mut self, now: Instant, address: IpAddr) -> (u64, Arc<Calls>, oneshot::Receiver<()>) {
        let (close, closed) = oneshot::channel();
        let calls = Arc::new(Calls::new(now));
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Entry { calls: calls.clone(), address, member: None, close: Some(close) });
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
    const HERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    async fn one_address_and_one_member_have_a_part_of_the_places_only() {
        let (mut book, now) = (Book::default(), Instant::now());
        let there: IpAddr = "2001:db8::1".parse().unwrap();
        let open: Vec<_> = (0..7).map(|_| book.add(now, there)).collect();
        assert_eq!(book.verdict_on(there, 7, now), Verdict::Refuse);
        assert_eq!(book.verdict_on(there, 7, now + GRACE), Verdict::Replace(open[0].0), "its own silent one");
        assert_eq!([book.verdict_on(there, 8, now), book.verdict_on(HERE, 7, now)], [Verdict::Admit; 2]);
        let within: Vec<bool> = open.iter().map(|(id, ..)| book.identify(*id, "node h1".into(), 3)).collect();
        assert_eq!(within, [true, true, true, false, false, false, false]);
        assert!(book.identify(open[4].0, "node h2".into(), 3));
        book.open.remove(&open[0].0);
        assert!(book.identify(open[5].0, "node h1".into(), 3), "one of its connections is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_places_are_for_this_host_and_silent_connections_are_replaced() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut open = Vec::new();
        for _ in 0..6 {
            assert_eq!(book.verdict(false, 8, 2, now), Verdict::Admit);
            open.push(book.add(Instant::now(), HERE));
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
        let mut add = || book.add(now, HERE);
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
