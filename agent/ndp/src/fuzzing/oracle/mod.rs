//! Which answers are right: by what containers have said, and the rules of RFC 4861 §7.2.4 and §7.2.8.

mod life;
mod packets;

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use super::{
    case::{BRIDGES, Case, Event, OWN, UPLINKS, of_the_kernel},
    play::{Decided, Step, Why, play, text},
    rfc::{self, Read},
};
use crate::{
    message::{Kind, Mac, Message},
    proxy::{Answer, Place, Proxy, Unanswered},
};
use life::{Life, Lives};
use packets::{Advertised, read_all};

/// One neighbour may ask so often at once; those beyond may be refused.
const ANSWERS_AT_ONCE: usize = 1000;
const ASKS_AT_ONCE: usize = 100;
/// An unknown address is asked for so long.
const ASKED_FOR: Duration = Duration::from_millis(700);
/// So many neighbours wait for an address.
const MOST_WAITING: usize = 8;
/// After so long a silence nothing is known any more.
const SILENCE: Event = Event::Wait(60_000);

/// What is decided, as text, and whether that is right.
pub(super) fn judge(case: &Case) -> (String, Result<(), String>) {
    judge_with(case, |_| ())
}

/// With a fault in what is done on a solicitation that is answered.
pub(super) fn judge_with(case: &Case, fault: fn(&mut Step)) -> (String, Result<(), String>) {
    let (mut decided, mut verdict, mut oracle) = (String::new(), Ok(()), Oracle::new(case));
    let proxy = play(case, |mut step| {
        if matches!(step.why, Why::Packet { decided: Some(Ok(())), .. }) {
            fault(&mut step);
        }
        decided += &text(case, &step);
        if verdict.is_ok() {
            verdict = oracle.step(&step);
        }
    });
    let bounded = bounds(&proxy, |(_, size, most)| size <= most);
    let then_silent = Case { events: [&case.events[..], &[SILENCE]].concat(), ..case.clone() };
    let silent =
        bounds(&play(&then_silent, |_| ()), |(what, size, _)| !what.contains("address") || *size == 0);
    (decided, verdict.and(bounded).and(silent))
}

fn bounds(proxy: &Proxy, is_right: impl Fn(&(&str, usize, usize)) -> bool) -> Result<(), String> {
    let sizes = proxy.sizes();
    sizes.iter().find(|it| !is_right(it)).map_or(Ok(()), |it| Err(format!("too much is remembered: {it:?}")))
}

/// A neighbour that was not answered, since nobody knew the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    link: u32,
    source: Ipv6Addr,
    mac: Mac,
    to_group: bool,
}

struct Oracle<'a> {
    case: &'a Case,
    place: Place,
    lives: Lives,
    /// Who waits for an address, since when the first one does.
    waiters: BTreeMap<Ipv6Addr, (Instant, Vec<Waiter>)>,
    /// Solicitations of addresses of the place, and of these that are unknown.
    asked: usize,
    unknown: usize,
}

impl<'a> Oracle<'a> {
    fn new(case: &'a Case) -> Self {
        let (lives, waiters) = (Lives::default(), BTreeMap::new());
        Self { case, place: case.place(), lives, waiters, asked: 0, unknown: 0 }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.why {
            Why::Packet { event, read, decided } => {
                let Event::Packet { link, from, packet } = &self.case.events[*event] else {
                    return Err("no packet".to_owned());
                };
                let expected = rfc::read(packet);
                is_same(expected, *read)?;
                match expected {
                    Some(it) if UPLINKS.contains(link) => self.asked(*link, *from, &it, *decided, step),
                    Some(it) if BRIDGES.contains(link) => self.heard(*link, *from, &it, step),
                    _ => nothing(step),
                }
                .map_err(|error| format!("event {}: {error}", event + 1))
            }
            Why::Due => {
                let is_there = |target, seat| self.lives.was_at(target, seat);
                let is_right = |sent| packets::is_our_solicitation(&self.place, sent, is_there);
                step.sent.iter().try_for_each(is_right)
            }
            Why::Again => read_all(&self.place, &step.sent)?.iter().try_for_each(|it| {
                let may_be_alive = self.lives.of(it.target(), step.now) != Life::Gone;
                let is_right = Advertised::announcements(&self.place, it.target()).contains(it);
                let is_due = may_be_alive && is_right && self.case.settings.overrides;
                if is_due { Ok(()) } else { Err(format!("advertised again: {it:?}")) }
            }),
            Why::Other { event } => {
                match self.case.events[*event] {
                    Event::Gone { bridge, mac } => self.lives.doubt(bridge, mac, step.now),
                    Event::Adopted(target) if self.is_containers(target) => {
                        self.lives.adopt(target, step.now)
                    }
                    _ => {}
                }
                nothing(step)
            }
        }
    }

    /// Something is said on an uplink.
    fn asked(
        &mut self,
        link: u32,
        from: Mac,
        it: &Read,
        decided: Option<Decided>,
        step: &Step,
    ) -> Result<(), String> {
        if it.kind != 135 {
            return if decided.is_none() { nothing(step) } else { Err("counted".to_owned()) };
        }
        let decided = decided.ok_or("not counted")?;
        let allowed = self.allowed(link, from, it, step.now);
        if !allowed.contains(&decided) {
            return Err(format!("{decided:?}, not one of {allowed:?}"));
        }
        let to = it.mac.unwrap_or(from);
        if decided == Err(Unanswered::Unknown) {
            let waiter = Waiter { link, source: it.source, mac: to, to_group: it.destination.is_multicast() };
            let all = &mut self.waiters.entry(it.target).or_insert((step.now, vec![])).1;
            if !all.contains(&waiter) {
                all.push(waiter);
            }
        }
        if decided.is_err() {
            return nothing(step);
        }
        let answer = Advertised::answer(link, it.target, it.source, to);
        let sent = read_all(&self.place, &step.sent)?;
        if sent == [answer] { Ok(()) } else { Err(format!("{sent:?} instead of {answer:?}")) }
    }

    /// What may be decided on a solicitation.
    fn allowed(&mut self, link: u32, from: Mac, it: &Read, now: Instant) -> Vec<Decided> {
        let (target, place) = (it.target, &self.place);
        let is_own = place.bridges.iter().any(|bridge| bridge.own.contains(&target))
            && place.prefixes.iter().any(|prefix| prefix.contains(target));
        let is_on_link = !place.off_link.iter().any(|(at, prefix)| *at == link && prefix.contains(target));
        if !is_on_link || !(is_own || self.is_containers(target)) {
            return vec![Err(Unanswered::Elsewhere)];
        }
        let is_probe = it.source.is_unspecified();
        if !is_probe && self.is_this_host(it.source, it.mac.unwrap_or(from)) {
            return vec![Err(Unanswered::Own)];
        }
        if target == of_the_kernel() {
            return vec![Err(Unanswered::Kernel)];
        }
        self.asked += 1;
        let known = if place.answers { Ok(()) } else { Err(Unanswered::Kernel) };
        let of_all = place.answer == Answer::All && !is_probe;
        let unknown = if of_all { Ok(()) } else { Err(Unanswered::Unknown) };
        let life = if is_own { Life::Alive } else { self.lives.of(target, now) };
        let mut allowed = match life {
            Life::Alive => vec![known],
            Life::Gone => vec![unknown],
            Life::Unclear => vec![known, unknown],
        };
        self.unknown += usize::from(allowed.contains(&Err(Unanswered::Unknown)));
        if self.asked > ANSWERS_AT_ONCE || self.unknown > ASKS_AT_ONCE {
            allowed.push(Err(Unanswered::Limit));
        }
        allowed
    }

    /// Something is said on a bridge.
    fn heard(&mut self, link: u32, from: Mac, it: &Read, step: &Step) -> Result<(), String> {
        let target = if it.kind == 136 { it.target } else { it.source };
        let is_there = |bridge: &crate::proxy::Bridge| bridge.link == link && bridge.has(target);
        if it.kind == 135 && it.source.is_unspecified() {
            self.lives.detect(it.target, (link, from));
        }
        let is_own = self.place.bridges.iter().any(|bridge| bridge.own.contains(&target));
        if is_own || !self.is_containers(target) || !self.place.bridges.iter().any(is_there) {
            return nothing(step);
        }
        let before = self.lives.of(target, step.now);
        let is_counted = self.lives.hear(target, (link, from), step.now);
        let sent = read_all(&self.place, &step.sent)?;
        let since = self.waiters.get(&target).map(|(first, _)| step.now.duration_since(*first));
        if sent.is_empty() && (before != Life::Gone || !is_counted) {
            return Ok(());
        }
        if before == Life::Alive {
            return Err(format!("it was known before: {sent:?}"));
        }
        let waiters = self.waiters.remove(&target).unwrap_or((step.now, vec![])).1;
        self.are_served(target, sent, &waiters, since.is_some_and(|since| since < ASKED_FOR))
    }

    /// A new address is announced to all neighbours, and those who wait are answered.
    fn are_served(
        &self,
        target: Ipv6Addr,
        mut sent: Vec<Advertised>,
        waiters: &[Waiter],
        at_once: bool,
    ) -> Result<(), String> {
        for announcement in Advertised::announcements(&self.place, target) {
            let at = sent.iter().position(|it| *it == announcement);
            sent.remove(at.ok_or_else(|| format!("{announcement:?} is missing"))?);
        }
        for (number, it) in waiters.iter().enumerate() {
            let answer = Advertised::answer(it.link, target, it.source, it.mac);
            match sent.iter().position(|it| *it == answer) {
                Some(at) => drop(sent.remove(at)),
                None if at_once && number < MOST_WAITING => return Err(format!("{answer:?} is missing")),
                None => {}
            }
        }
        if sent.is_empty() { Ok(()) } else { Err(format!("sent without a question: {sent:?}")) }
    }

    fn is_containers(&self, target: Ipv6Addr) -> bool {
        self.place.prefixes.iter().any(|prefix| prefix.contains(target) && prefix.addr() != target)
    }

    fn is_this_host(&self, source: Ipv6Addr, mac: Mac) -> bool {
        let of_bridges = self.place.bridges.iter().flat_map(|bridge| &bridge.own);
        let mut addresses = of_bridges.copied().chain(self.place.uplinks.iter().map(|uplink| uplink.source));
        OWN.contains(&mac) || addresses.any(|own| own == source)
    }
}

fn nothing(step: &Step) -> Result<(), String> {
    if step.sent.is_empty() { Ok(()) } else { Err(format!("sent without a reason: {:?}", step.sent)) }
}

/// The decoder has read the same.
fn is_same(expected: Option<Read>, read: Option<Message>) -> Result<(), String> {
    let kind = |it: &Message| if it.kind == Kind::Solicitation { 135 } else { 136 };
    let of = |it: Message| (kind(&it), it.source, it.destination, it.target, it.mac);
    let (ours, theirs) =
        (read.map(of), expected.map(|it| (it.kind, it.source, it.destination, it.target, it.mac)));
    if ours == theirs { Ok(()) } else { Err(format!("read as {ours:?}, by the RFC {theirs:?}")) }
}
