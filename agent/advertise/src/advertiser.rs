//! Advertises what is wanted, as long as it is.

use std::{io, net::Ipv6Addr, time::Duration};

use sextant_proto::link_name_octets;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    former::{Former, Remembered, Store},
    message::{Content, encode},
    schedule::Schedule,
    socket::Link,
};

/// When a socket that could not be opened is opened again.
const RETRY: Duration = Duration::from_secs(3);

/// What is to be advertised, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The interface's name, as text (`link_name_text` in `sextant_proto`).
    pub interface: String,
    /// Its index; an interface that is made again has another one.
    pub index: u32,
    /// Its link-local address.
    pub source: Ipv6Addr,
    /// The content, without the former prefixes, which the advertiser remembers.
    pub content: Content,
}

/// Sends the advertisements.
#[derive(Debug)]
pub struct Advertiser {
    wanted: watch::Receiver<Option<Wanted>>,
    trouble: watch::Sender<Option<String>>,
    former: Former,
    store: Box<dyn Store>,
}

impl Advertiser {
    /// Follows `wanted`. What prevents advertisements is sent to `trouble`. `remembered` is what an earlier process has stored.
    pub fn new(
        wanted: watch::Receiver<Option<Wanted>>,
        trouble: watch::Sender<Option<String>>,
        remembered: Remembered,
        store: Box<dyn Store>,
    ) -> Self {
        Self { wanted, trouble, former: Former::restored(remembered, Instant::now()), store }
    }

    /// Runs until the other end of `wanted` is gone.
    pub async fn run(mut self) {
        let mut open: Option<(u32, Link)> = None;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(wanted) = wanted else {
                (open, _) = (None, self.tell(None));
                match self.wanted.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            let link = match open.take().filter(|(index, _)| *index == wanted.index) {
                Some((_, link)) => Ok(link),
                None => Link::open(&link_name_octets(&wanted.interface), wanted.index),
            };
            let served = match link {
                Ok(link) => {
                    let served = self.serve(&link, wanted.clone()).await;
                    open = served.is_ok().then_some((wanted.index, link));
                    served
                }
                Err(error) => Err(error),
            };
            match served {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.tell(Some(&error));
                    if let Ok(Err(_)) = timeout(RETRY, self.wanted.changed()).await {
                        return;
                    }
                }
            }
        }
    }

    /// Advertises on an interface until something else is wanted. `false` if nothing will be.
    async fn serve(&mut self, link: &Link, mut wanted: Wanted) -> io::Result<bool> {
        let mut schedule = Schedule::new(Instant::now());
        self.follow(&wanted);
        loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(false);
                    }
                    let next = self.wanted.borrow_and_update().clone();
                    let now = Instant::now();
                    match next {
                        Some(next) if next.index == wanted.index => {
                            self.follow(&next);
                            wanted = next;
                            schedule.changed(now);
                        }
                        _ => return Ok(true),
                    }
                }
                solicited = link.solicited() => {
                    solicited?;
                    schedule.solicited(Instant::now(), rand::random());
                }
                () = sleep_until(schedule.next()) => self.send(link, &wanted, &mut schedule),
            }
        }
    }

    /// These are advertised from now on. That is stored before: after a crash, they are former ones if others are wanted.
    fn follow(&mut self, wanted: &Wanted) {
        let now = Instant::now();
        if self.former.follow(&wanted.content.prefixes, now)
            && let Err(error) = self.store.keep(&self.former.remembered(now))
        {
            tracing::warn!(%error, "advertised prefixes cannot be stored; after a restart they are not withdrawn");
        }
    }

    fn send(&mut self, link: &Link, wanted: &Wanted, schedule: &mut Schedule) {
        let now = Instant::now();
        let former = self.former.now(now);
        let content = Content { former, ..wanted.content.clone() };
        match link.advertise(&encode(&content), wanted.source) {
            Ok(()) => {
                self.tell(None);
                schedule.sent(now, rand::random());
            }
            Err(error) => {
                self.tell(Some(&error));
                schedule.failed(now);
            }
        }
    }

    fn tell(&self, trouble: Option<&io::Error>) {
        let trouble = trouble.map(ToString::to_string);
        self.trouble.send_if_modified(|before| {
            let changed = *before != trouble;
            *before = trouble;
            changed
        });
    }
}
