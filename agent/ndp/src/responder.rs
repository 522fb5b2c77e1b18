//! Answers, as long as there is a place to answer at. One task owns the state of all answers and all sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    groups::Groups,
    message::{Mac, Message},
    proxy::{Counts, Place, Proxy, Sent},
    socket::Port,
    targets::InUse,
};

/// So many messages of one link are taken in a row: the others have their turn.
const AT_ONCE: usize = 64;
/// Counts, and what others do, are reported no more often than that: solicitations may come by the ten thousand.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// When a socket that could not be opened, or a group that could not be joined, is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// What the responder is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Where the host stands.
    pub place: Place,
    /// The addresses of the engine's running containers.
    pub expected: Arc<BTreeSet<Ipv6Addr>>,
    /// The ports of the containers' bridges: index and bridge.
    pub ports: BTreeSet<(u32, u32)>,
}

/// What it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The addresses in use; `None` before the first look.
    pub alive: Option<Arc<BTreeSet<Ipv6Addr>>>,
    /// What was answered.
    pub counts: Counts,
    /// Packets that were no valid neighbour discovery.
    pub invalid: u64,
    /// The number of multicast groups that it has joined.
    pub groups: usize,
    /// Addresses that others on the uplinks have advertised, with their link-layer addresses.
    pub others: BTreeMap<Ipv6Addr, Mac>,
    /// Addresses that a neighbour goes on asking for although it is answered, with its link-layer address.
    pub unheeded: BTreeMap<Ipv6Addr, Mac>,
    /// What it cannot do.
    pub trouble: Option<Trouble>,
}

/// What the responder cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// An interface cannot be heard.
    Unheard {
        /// Its index.
        link: u32,
        /// Whether neighbours solicit there.
        uplink: bool,
        /// Why.
        error: String,
    },
    /// The groups of addresses in use cannot be joined: the reason.
    Groups(String),
}

/// A request for details, which change too often to be reported each time.
pub type Ask = oneshot::Sender<Details>;

/// What it knows in detail, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The addresses in use; those of the bridges, first, without details.
    pub in_use: Vec<(Ipv6Addr, Option<InUse>)>,
    /// What was answered.
    pub counts: Counts,
    /// The number of joined groups of each uplink.
    pub groups: BTreeMap<u32, u64>,
    /// The links that it hears.
    pub heard: BTreeSet<u32>,
}

/// Answers on the uplinks of a host.
#[derive(Debug)]
pub struct Responder {
    given: watch::Receiver<Given>,
    known: watch::Sender<Known>,
    asks: mpsc::Receiver<Ask>,
    proxy: Proxy,
    last: Given,
    ports: BTreeMap<u32, Port>,
    groups: Groups,
    /// The last change of the addresses in use that was sent.
    sent: Option<u64>,
    invalid: u64,
    retry_at: Option<Instant>,
    reported_at: Instant,
    /// When the rest is reported.
    report_at: Option<Instant>,
}

/// Why it wakes.
enum Woken {
    Given(bool),
    Received(u32, io::Result<u64>, Vec<(Mac, Message)>),
    Asked(Ask),
    Due,
}

impl Responder {
    /// Follows what is `given`, and tells what it knows. `adopted` were in use before this process.
    pub fn new(
        mut given: watch::Receiver<Given>,
        known: watch::Sender<Known>,
        asks: mpsc::Receiver<Ask>,
        adopted: impl IntoIterator<Item = Ipv6Addr>,
    ) -> Self {
        let (last, now) = (given.borrow_and_update().clone(), Instant::now());
        let mut proxy = Proxy::new(last.place.clone(), now);
        proxy.adopt(adopted, now);
        proxy.expect(last.expected.iter().copied(), now);
        Self {
            given,
            known,
            asks,
            proxy,
            last,
            ports: BTreeMap::new(),
            groups: Groups::default(),
            sent: None,
            invalid: 0,
            retry_at: Some(now),
            reported_at: now,
            report_at: Some(now),
        }
    }

    /// Runs until the other end of what is given is gone.
    pub async fn run(mut self) {
        loop {
            if self.retry_at.is_some_and(|at| at <= Instant::now()) {
                self.open();
            }
            self.report_alive();
            if self.report_at.is_some_and(|at| at <= Instant::now()) {
                self.report_rest();
            }
            match self.wake().await {
                Woken::Given(false) => return,
                Woken::Given(true) => self.take_given(),
                Woken::Asked(ask) => self.take_ask(ask),
                Woken::Due => {}
                Woken::Received(link, outcome, messages) => self.take_messages(link, outcome, messages),
            }
            let now = Instant::now();
            if self.proxy.next_due().is_some_and(|due| due <= now) {
                let asks = self.proxy.ask(now, |link| self.ports.contains_key(&link));
                self.send(asks);
                self.report_soon();
            }
        }
    }

    async fn wake(&mut self) -> Woken {
        let due = [self.proxy.next_due(), self.retry_at, self.report_at].into_iter().flatten().min();
        tokio::select! {
            changed = self.given.changed() => Woken::Given(changed.is_ok()),
            Some(ask) = self.asks.recv() => Woken::Asked(ask),
            (link, outcome, messages) = received(&self.ports) => Woken::Received(link, outcome, messages),
            () = async { match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            } } => Woken::Due,
        }
    }

    fn take_given(&mut self) {
        let (given, now) = (self.given.borrow_and_update().clone(), Instant::now());
        let links_changed = links(&given.place).ne(links(&self.last.place));
        let prefixes_changed = given.place.prefixes != self.last.place.prefixes;
        self.proxy.move_to(given.place.clone());
        for (_, bridge) in self.last.ports.difference(&given.ports) {
            self.proxy.doubt_those(*bridge, None, now);
        }
        self.proxy.doubt(self.last.expected.difference(&given.expected).copied(), now);
        self.proxy.expect(given.expected.iter().copied(), now);
        self.last = given;
        if links_changed || prefixes_changed {
            self.retry_at = Some(now);
        }
        self.sent = None;
        self.report_soon();
    }

    fn take_ask(&self, ask: Ask) {
        let in_use = self.proxy.alive().map(|addr| (addr, self.proxy.in_use(addr))).collect();
        let (counts, groups) = (self.proxy.counts().clone(), self.groups.counts());
        let heard = self.ports.keys().copied().collect();
        // Whoever has asked may have given up.
        let _ = ask.send(Details { in_use, counts, groups, heard });
    }

    fn take_messages(&mut self, link: u32, outcome: io::Result<u64>, messages: Vec<(Mac, Message)>) {
        let now = Instant::now();
        match outcome {
            Ok(invalid) => self.invalid += invalid,
            // The link is gone, or down: it is opened again.
            Err(_) => {
                self.ports.remove(&link);
                self.retry_at = Some(now + RETRY);
            }
        }
        for (from, message) in messages {
            let sent = self.proxy.received(link, from, &message, now);
            self.send(sent);
        }
        self.report_soon();
    }

    /// Sends packets. One that is lost is like one lost on the link: its receiver asks again.
    fn send(&self, all: Vec<Sent>) {
        for sent in all {
            if let Some(port) = self.ports.get(&sent.link) {
                let _ = port.send(sent.to, &sent.packet);
            }
        }
    }

    /// Opens the sockets of all links, and closes those of others.
    fn open(&mut self) {
        self.retry_at = None;
        let wanted: BTreeMap<u32, bool> = links(&self.last.place).collect();
        self.ports.retain(|link, _| wanted.contains_key(link));
        let mut failed = None;
        for (link, uplink) in wanted {
            if let Err(error) = self.open_one(link, uplink) {
                let trouble = Trouble::Unheard { link, uplink, error: error.to_string() };
                // An uplink that cannot be heard comes first.
                failed = failed.filter(|_| !uplink).or(Some(trouble));
            }
        }
        if let Err(error) = self.join() {
            failed.get_or_insert(Trouble::Groups(error.to_string()));
        }
        if failed.is_some() {
            self.retry_at = Some(Instant::now() + RETRY);
        }
        self.known.send_if_modified(|known| std::mem::replace(&mut known.trouble, failed.clone()) != failed);
    }

    fn open_one(&mut self, link: u32, uplink: bool) -> io::Result<()> {
        let prefixes = uplink.then_some(&self.last.place.prefixes[..]);
        if let Some(port) = self.ports.get(&link) {
            return port.listen_for(prefixes);
        }
        let port = Port::open(link, uplink)?;
        port.listen_for(prefixes)?;
        self.ports.insert(link, port);
        Ok(())
    }

    fn join(&mut self) -> io::Result<()> {
        let uplinks: Vec<_> = self.last.place.uplinks.iter().map(|uplink| uplink.link).collect();
        self.groups.follow(&uplinks, self.proxy.alive())
    }

    /// Reports the addresses in use as soon as they change.
    fn report_alive(&mut self) {
        let changes = Some(self.proxy.changes());
        if self.sent == changes {
            return;
        }
        self.sent = changes;
        let alive: BTreeSet<_> = self.proxy.alive().collect();
        if self.join().is_err() {
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
        self.known.send_if_modified(|known| {
            let is_new = known.alive.as_deref() != Some(&alive);
            known.alive = Some(Arc::new(alive));
            is_new
        });
    }

    fn report_soon(&mut self) {
        let soon = self.reported_at + REPORT_EVERY;
        self.report_at = Some(self.report_at.map_or(soon, |at| at.min(soon)));
    }

    /// Reports the rest of what has changed.
    fn report_rest(&mut self) {
        let now = Instant::now();
        let (others, unheeded) = (self.proxy.others(now), self.proxy.unheeded(now));
        let (counts, invalid, groups) = (self.proxy.counts(), self.invalid, self.groups.len());
        // Counts alone are no news: metrics read them.
        self.known.send_if_modified(|known| {
            let is_new = known.others != others || known.unheeded != unheeded;
            (known.others, known.unheeded) = (others, unheeded);
            (known.invalid, known.groups) = (invalid, groups);
            known.counts.clone_from(counts);
            is_new
        });
        (self.reported_at, self.report_at) = (now, self.proxy.next_fewer());
    }
}

/// The links of a place, and whether each is an uplink.
fn links(place: &Place) -> impl Iterator<Item = (u32, bool)> {
    let uplinks = place.uplinks.iter().map(|uplink| (uplink.link, true));
    uplinks.chain(place.bridges.iter().map(|bridge| (bridge.link, false)))
}

/// The next messages of any link.
async fn received(ports: &BTreeMap<u32, Port>) -> (u32, io::Result<u64>, Vec<(Mac, Message)>) {
    if ports.is_empty() {
        // Nothing is open: a socket is tried again later.
        std::future::pending::<()>().await;
    }
    let each = ports.iter().map(|(link, port)| {
        Box::pin(async move {
            let mut messages = Vec::new();
            let outcome = port.receive(AT_ONCE, |from, message| messages.push((from, message))).await;
            (*link, outcome, messages)
        })
    });
    let (first, _, _) = futures::future::select_all(each).await;
    first
}
