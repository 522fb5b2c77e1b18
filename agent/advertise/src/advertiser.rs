//! Advertises what is wanted, as long as it is.

use std::{io, net::Ipv6Addr, time::Duration};

use sextant_proto::{Prefix, link_name_octets};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    message::{Content, encode},
    schedule::Schedule,
    socket::Link,
};

/// After this time a host has given up an address of a former prefix (RFC 4862 §5.5.3).
const FORMER_FOR: Duration = Duration::from_secs(2 * 3600);
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
}

/// The prefixes that were advertised, also where nothing was for a while.
#[derive(Debug, Default)]
struct Former {
    /// Those that are advertised now, or were last.
    last: Vec<Prefix>,
    /// Those before, each with the time after which no host has an address of it.
    until: Vec<(Prefix, Instant)>,
}

impl Advertiser {
    /// Follows `wanted`. What prevents advertisements is sent to `trouble`.
    pub fn new(wanted: watch::Receiver<Option<Wanted>>, trouble: watch::Sender<Option<String>>) -> Self {
        Self { wanted, trouble, former: Former::default() }
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
        self.former.follow(&wanted.content.prefixes, Instant::now());
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
                            self.former.follow(&next.content.prefixes, now);
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

impl Former {
    /// These are advertised from now on: the last ones are former ones, but for those that stay.
    fn follow(&mut self, wanted: &[Prefix], now: Instant) {
        let last = std::mem::replace(&mut self.last, wanted.to_vec());
        self.until.retain(|(prefix, _)| !last.contains(prefix));
        self.until.extend(last.into_iter().map(|prefix| (prefix, now + FORMER_FOR)));
        self.until.retain(|(prefix, _)| !wanted.contains(prefix));
    }

    fn now(&mut self, now: Instant) -> Vec<Prefix> {
        self.until.retain(|(_, until)| *until > now);
        self.until.iter().map(|(prefix, _)| *prefix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_prefixes_are_remembered_for_two_hours() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let (one, other) = (prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64"));
        let (now, mut former) = (Instant::now(), Former::default());
        former.follow(&[one], now);
        former.follow(&[one], now);
        assert_eq!(former.now(now), [], "it is still advertised");
        // Nothing is advertised for a while, as without a bridge.
        former.follow(&[], now);
        former.follow(&[other], now);
        assert_eq!(former.now(now), [one]);
        former.follow(&[one], now + RETRY);
        assert_eq!(former.now(now + RETRY), [other], "what is wanted again is no former one");
        assert_eq!(former.now(now + FORMER_FOR), [other]);
        assert_eq!(former.now(now + FORMER_FOR + RETRY), []);
    }
}
