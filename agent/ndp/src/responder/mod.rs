//! Answers, as long as there is a place to answer at. One task owns the state of all answers and all sockets.

mod exchange;
mod reports;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
    ops::Bound,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

pub use exchange::{Ask, Details, Given, Known, Trouble};

use crate::{
    groups::Groups,
    message::{Mac, Message},
    proxy::{Place, Proxy, Sent},
    socket::Port,
};

/// So many messages of one link are taken in a row: the others have their turn.
const AT_ONCE: usize = 64;
/// Counts, and what others do, are reported no more often than that: solicitations may come by the ten thousand.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// When a socket that could not be opened, or a group that could not be joined, is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// Answers on the uplinks of a host.
#[derive(Debug)]
pub struct Responder {
    given: watch::Receiver<Given>,
    known: watch::Sender<Known>,
    asks: mpsc::Receiver<Ask>,
    proxy: Proxy,
    /// So many losses of the bridges were followed.
    losses: u64,
    /// So many of their ports had come.
    arrivals: u64,
    /// The revision of what the kernel answers for.
    kernel: u64,
    ports: BTreeMap<u32, Port>,
    groups: Groups,
    /// The revision of the containers' addresses that was reported; `None` if all are to be.
    reported: Option<u64>,
    invalid: u64,
    /// The link whose messages were taken last.
    last: u32,
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
        let (first, now) = (given.borrow_and_update().clone(), Instant::now());
        let mut proxy = Proxy::new(first.place, now);
        proxy.set_ports(first.ports);
        proxy.start_sweeps(now);
        proxy.leave_only_to_kernel(first.kernel.iter());
        proxy.adopt(adopted, now);
        proxy.follow_engine(&first.expected, now);
        proxy.ask_silent(now);
        Self {
            given,
            known,
            asks,
            proxy,
            losses: first.losses.count(),
            arrivals: first.arrivals,
            kernel: first.kernel.revision(),
            ports: BTreeMap::new(),
            groups: Groups::default(),
            reported: None,
            invalid: 0,
            last: 0,
            retry_at: Some(now),
            reported_at: now,
            report_at: Some(now),
        }
    }

    /// Runs on a thread of its own, so that nothing else that the agent does delays an answer. What is returned waits for its end.
    ///
    /// # Errors
    /// If the kernel refuses a thread, or what it waits with.
    pub fn start(self) -> io::Result<impl Future<Output = ()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ended, end) = oneshot::channel::<()>();
        let work = move || {
            let _ended = ended;
            runtime.block_on(self.run());
        };
        std::thread::Builder::new().name("ndp".into()).spawn(work)?;
        Ok(async { drop(end.await) })
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
                self.proxy.sweep(now);
                let asks = self.proxy.ask(now, |link| self.ports.contains_key(&link));
                self.send(asks);
                let renewed = self.proxy.advertise_renewed(now);
                self.send(renewed);
                self.report_soon();
            }
        }
    }

    async fn wake(&mut self) -> Woken {
        let due = [self.proxy.next_due(), self.retry_at, self.report_at].into_iter().flatten().min();
        tokio::select! {
            changed = self.given.changed() => Woken::Given(changed.is_ok()),
            Some(ask) = self.asks.recv() => Woken::Asked(ask),
            (link, outcome, messages) = received(&self.ports, self.last) => Woken::Received(link, outcome, messages),
            () = async { match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            } } => Woken::Due,
        }
    }

    /// Takes over what has changed, and nothing else: there may be thousands of addresses.
    fn take_given(&mut self) {
        let now = Instant::now();
        let Self { given, proxy, .. } = self;
        let given = given.borrow_and_update();
        if given.place != *proxy.place() {
            let links_changed = links(&given.place).ne(links(proxy.place()));
            if links_changed || given.place.prefixes != proxy.place().prefixes {
                self.retry_at = Some(now);
            }
            if given.place.prefixes != proxy.place().prefixes {
                proxy.start_sweeps(now);
            }
            proxy.move_to(given.place.clone(), now);
            self.reported = None;
        }
        match given.kernel.since(self.kernel) {
            Some(changed) => changed.for_each(|it| proxy.leave_to_kernel(it, given.kernel.contains(it))),
            None => proxy.leave_only_to_kernel(given.kernel.iter()),
        }
        self.kernel = given.kernel.revision();
        proxy.set_ports(given.ports);
        if given.arrivals != self.arrivals {
            proxy.port_came(now);
        }
        self.arrivals = given.arrivals;
        match given.losses.since(self.losses) {
            Some(losses) => losses.for_each(|(bridge, mac)| proxy.doubt_those(bridge, mac, now)),
            None => proxy.doubt_all(now),
        }
        self.losses = given.losses.count();
        proxy.follow_engine(&given.expected, now);
        proxy.ask_silent(now);
        drop(given);
        self.report_soon();
    }

    fn take_ask(&self, ask: Ask) {
        let own = self.proxy.place().own_targets().map(|addr| (addr, None));
        let containers: BTreeSet<_> = self.proxy.containers().iter().collect();
        let in_use = own.chain(containers.into_iter().map(|addr| (addr, self.proxy.in_use(addr)))).collect();
        let (counts, groups) = (self.proxy.counts().clone(), self.groups.counts());
        let heard = self.ports.keys().copied().collect();
        // Whoever has asked may have given up.
        let _ = ask.send(Details { in_use, counts, groups, heard });
    }

    fn take_messages(&mut self, link: u32, outcome: io::Result<u64>, messages: Vec<(Mac, Message)>) {
        let now = Instant::now();
        self.last = link;
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
        let wanted: BTreeMap<u32, bool> = links(self.proxy.place()).collect();
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
        let prefixes = uplink.then_some(&self.proxy.place().prefixes[..]);
        if let Some(port) = self.ports.get(&link) {
            return port.listen_for(prefixes);
        }
        let port = Port::open(link, uplink)?;
        port.listen_for(prefixes)?;
        self.ports.insert(link, port);
        Ok(())
    }
}

/// The links of a place, and whether each is an uplink.
fn links(place: &Place) -> impl Iterator<Item = (u32, bool)> {
    let uplinks = place.uplinks.iter().map(|uplink| (uplink.link, true));
    uplinks.chain(place.bridges.iter().map(|bridge| (bridge.link, false)))
}

/// All links, those after `last` first: while one is flooded, the others have their turn.
fn in_turn<T>(ports: &BTreeMap<u32, T>, last: u32) -> impl Iterator<Item = (&u32, &T)> {
    let after = (Bound::Excluded(last), Bound::Unbounded);
    ports.range(after).chain(ports.range(..=last))
}

/// The next messages of any link; of several, the first one after `last`.
async fn received(ports: &BTreeMap<u32, Port>, last: u32) -> (u32, io::Result<u64>, Vec<(Mac, Message)>) {
    if ports.is_empty() {
        // Nothing is open: a socket is tried again later.
        std::future::pending::<()>().await;
    }
    let each = in_turn(ports, last).map(|(link, port)| {
        Box::pin(async move {
            let mut messages = Vec::new();
            let outcome = port.receive(AT_ONCE, |from, message| messages.push((from, message))).await;
            (*link, outcome, messages)
        })
    });
    // It polls them in this order, and takes the first one that is ready.
    let (first, _, _) = futures::future::select_all(each).await;
    first
}

#[cfg(test)]
mod tests;
