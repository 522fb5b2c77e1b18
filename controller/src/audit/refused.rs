//! Refused calls in the audit. A flood of refusals makes few entries: those of one principal for one call within a minute are one
//! entry with their number.
//!
//! One task, [`RefusedCalls::run`], writes them: an entry at the first refusal, and the same entry with the number once the minute is
//! over. It never ends: an entry that the store does not take is dropped, and the log has it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_daemon::{Failing, Outage};
use sextant_proto::{NodeName, counted, unix_ms};
use tokio::{sync::Notify, time::Instant};

use super::{Actor, Event, What};
use crate::{
    keys::Keys,
    registry::{SharedRegistry, Txn},
};

/// How long refusals of one kind count as one entry.
const PERIOD: Duration = Duration::from_secs(60);
/// The kinds that are kept apart at the same time; further refusals are one kind.
const MOST_KINDS: usize = 512;

/// A call that was refused.
#[derive(Debug, Clone)]
pub struct RefusedCall {
    /// The principal, without its address.
    pub principal: String,
    /// The node that it is, if it is one.
    pub node: Option<NodeName>,
    /// Principal and address.
    pub by: Actor,
    /// The call.
    pub call: String,
    /// The reason.
    pub why: String,
}

/// The refused calls of this controller, shared.
#[derive(Debug, Clone, Default)]
pub struct RefusedCalls {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    news: Notify,
}

/// The present kinds, by principal and call.
#[derive(Debug, Default)]
struct Book {
    kinds: BTreeMap<(String, String), Kind>,
    total: u64,
}

#[derive(Debug)]
struct Kind {
    first: RefusedCall,
    since: Instant,
    /// Of the key of its entry.
    unix_ms: u64,
    random: u64,
    times: u64,
    several_addresses: bool,
    written: bool,
}

/// An entry to be written.
#[derive(Debug, Clone)]
struct Entry {
    event: Event,
    by: Actor,
    unix_ms: u64,
    random: u64,
}

impl RefusedCalls {
    /// A call was refused just now.
    pub fn note(&self, call: RefusedCall) {
        if self.book().note(call, Instant::now()) {
            self.shared.news.notify_one();
        }
    }

    /// The number of refused calls since the start.
    pub fn total(&self) -> u64 {
        self.book().total
    }

    /// Writes the entries.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, registry: SharedRegistry, keys: Keys) -> Result<(), Infallible> {
        let mut outage = Outage::default();
        loop {
            let (entries, next) = self.book().due(Instant::now());
            for Entry { event, by, unix_ms, random } in entries {
                let op = event.op_at(&keys, &by, unix_ms, random);
                match registry.commit(Txn { guards: Vec::new(), ops: vec![op] }).await {
                    Ok(_) => drop(outage.works(Instant::now())),
                    Err(error) => {
                        if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                            tracing::warn!(%error, failures, for_secs, "refused calls cannot be written to the audit");
                        }
                    }
                }
            }
            let news = self.shared.news.notified();
            match next {
                Some(next) => drop(tokio::time::timeout_at(next, news).await),
                None => news.await,
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Whether it is the first of its kind.
    fn note(&mut self, call: RefusedCall, now: Instant) -> bool {
        self.total += 1;
        let mut kind = (call.principal.clone(), call.call.clone());
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
            kind = ("others".to_owned(), String::new());
        }
        if let Some(known) = self.kinds.get_mut(&kind) {
            known.times += 1;
            known.several_addresses |= known.first.by != call.by;
            return false;
        }
        let RefusedCall { by, call: name, why, .. } = &call;
        tracing::info!(%by, call = name, why, "call refused");
        let (unix_ms, random) = (unix_ms(), rand::random());
        let several_addresses = false;
        let new =
            Kind { first: call, since: now, unix_ms, random, times: 1, several_addresses, written: false };
        self.kinds.insert(kind, new);
        true
    }

    /// The entries that are to be written now, and when to ask again.
    fn due(&mut self, now: Instant) -> (Vec<Entry>, Option<Instant>) {
        let mut due = Vec::new();
        self.kinds.retain(|_, kind| {
            let over = now.duration_since(kind.since) >= PERIOD;
            if !kind.written || (over && kind.times > 1) {
                kind.written = true;
                due.push(kind.entry(now));
            }
            !over
        });
        (due, self.kinds.values().map(|kind| kind.since + PERIOD).min())
    }
}

impl Kind {
    fn entry(&self, now: Instant) -> Entry {
        let RefusedCall { node, by, call, why, .. } = &self.first;
        let event = Event::new(What::Refused).detail(format!("{call}: {why}"));
        let event = node.iter().fold(event, Event::node);
        let event = match self.times {
            1 => event,
            times => {
                let within = now.duration_since(self.since).as_secs();
                let from = if self.several_addresses { ", from several addresses" } else { "" };
                let times = counted(times, "such call");
                event.detail(format!("{times} within {within} s{from}"))
            }
        };
        Entry { event, by: by.clone(), unix_ms: self.unix_ms, random: self.random }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(principal: &str, address: u32, call: &str) -> RefusedCall {
        RefusedCall {
            principal: principal.into(),
            node: principal.strip_prefix("node ").map(|name| name.parse().unwrap()),
            by: Actor::new(&format!("{principal} at fd00::{address}")),
            call: call.into(),
            why: "it is for admins".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn alike_refusals_of_a_minute_are_one_entry_with_their_number() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert!(book.note(call("node h1", 1, "Status"), now));
        let (first, next) = book.due(now);
        assert_eq!((first.len(), next), (1, Some(now + PERIOD)));
        for n in 0..12_000 {
            assert!(!book.note(call("node h1", 1 + n % 2, "Status"), now));
        }
        assert!(book.note(call("node h1", 1, "Pause"), now) && book.note(call("node h2", 1, "Status"), now));
        assert_eq!(book.due(now).0.len(), 2, "another call, and another principal");
        let (over, next) = book.due(now + PERIOD);
        assert_eq!((over.len(), next), (1, None), "those of one call have no number to add");
        assert_eq!((over[0].unix_ms, over[0].random), (first[0].unix_ms, first[0].random), "the same entry");
        let detail = over[0].event.detail.as_str();
        assert_eq!(detail, "Status: it is for admins; 12001 such calls within 60 s, from several addresses");
        assert!(book.note(call("node h1", 1, "Status"), now + PERIOD), "the next minute has its own");
        assert_eq!(book.total, 12_004);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_kinds_is_bounded() {
        let (mut book, now) = (Book::default(), Instant::now());
        for n in 0..10_000 {
            book.note(call(&format!("node h{n}"), n, "Status"), now);
        }
        assert_eq!(book.kinds.len(), MOST_KINDS + 1);
        assert_eq!(book.due(now).0.len(), MOST_KINDS + 1);
    }
}
