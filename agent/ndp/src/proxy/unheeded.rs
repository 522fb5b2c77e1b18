//! Neighbours that go on asking for an address although they are answered: the answers do not arrive there. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use super::{Form, Unanswered};
use crate::message::{Mac, Message};

/// A neighbour asks three times for an address, a second apart (RFC 4861 §7.2.2), before it gives up; so often, and it has begun
/// for the third time.
const OFTEN: u32 = 7;
/// Those further apart are no repetition: the neighbour may have forgotten the address.
const APART: Duration = Duration::from_secs(5);
/// Those closer together are one: whoever asks did not wait for the answer.
const TOGETHER: Duration = Duration::from_millis(500);
/// So many pairs of neighbour and address are followed.
const MOST: usize = 256;
/// A neighbour that is silent for so long has what it needs, or does not need it any more.
const QUIET: Duration = Duration::from_secs(15);

/// A neighbour and the address that it asks for.
type Pair = (Ipv6Addr, Mac);

#[derive(Debug, Clone, Copy)]
struct Row {
    count: u32,
    last: Instant,
}

/// Who asks for what again and again.
#[derive(Debug, Default)]
pub(super) struct Unheeded {
    rows: BTreeMap<Pair, Row>,
    /// Before that, no row can be forgotten: there are [`MOST`].
    full_until: Option<Instant>,
}

impl Unheeded {
    /// A neighbour has asked, and was answered here or by the kernel, or was not.
    pub(super) fn follow(
        &mut self,
        neighbour: Mac,
        message: &Message,
        judged: Result<(), Unanswered>,
        now: Instant,
    ) {
        match (Form::of(message), judged) {
            (Form::Multicast, Ok(()) | Err(Unanswered::Kernel)) => {
                self.answered(message.target, neighbour, now)
            }
            (Form::Unicast, _) => self.heeded(message.target, neighbour),
            (Form::Multicast | Form::Detection, _) => {}
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.rows.len(), MOST)
    }

    /// A solicitation to the group of this address was answered.
    fn answered(&mut self, target: Ipv6Addr, neighbour: Mac, now: Instant) {
        let pair = (target, neighbour);
        if self.rows.len() >= MOST && !self.rows.contains_key(&pair) && !self.has_room(now) {
            return;
        }
        let row = self.rows.entry(pair).or_insert(Row { count: 1, last: now });
        if !row.is_recent(APART, now) {
            *row = Row { count: 1, last: now };
        } else if !row.is_recent(TOGETHER, now) {
            *row = Row { count: row.count.saturating_add(1), last: now };
        }
    }

    /// Makes room, if there are old rows: a look at all of them, so not for each solicitation of a flood.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        self.rows.retain(|_, row| row.is_recent(APART, now));
        self.full_until = (self.rows.len() >= MOST).then(|| now + TOGETHER);
        self.full_until.is_none()
    }

    /// The neighbour knows the address: it speaks to it.
    fn heeded(&mut self, target: Ipv6Addr, neighbour: Mac) {
        self.rows.remove(&(target, neighbour));
    }

    /// The addresses that neighbours go on asking for, each with one of these.
    pub(super) fn all(&self, now: Instant) -> BTreeMap<Ipv6Addr, Mac> {
        let often = self.rows.iter().filter(|(_, row)| row.count >= OFTEN && row.is_recent(QUIET, now));
        often.map(|((target, mac), _)| (*target, *mac)).collect()
    }

    /// When [`Self::all`] has fewer.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.rows.values().filter(|row| row.count >= OFTEN).map(|row| row.last + QUIET).min()
    }

    /// Forgets the neighbours that are silent, and the addresses that are not kept.
    pub(super) fn keep(&mut self, now: Instant, is_kept: impl Fn(Ipv6Addr) -> bool) {
        self.rows.retain(|(target, _), row| row.is_recent(QUIET, now) && is_kept(*target));
    }
}

impl Row {
    fn is_recent(&self, within: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Mac = [2, 0, 0, 0, 0, 1];

    fn asks(unheeded: &mut Unheeded, start: Instant, every: Duration, times: u32) -> Instant {
        let target = "2001:db8::c003".parse().unwrap();
        (0..times).for_each(|n| unheeded.answered(target, ROUTER, start + every * n));
        start + every * times.saturating_sub(1)
    }

    #[test]
    fn only_those_who_go_on_asking_are_unheeded() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (case, every, times, expected) in [
            ("two rounds", second, OFTEN - 1, 0),
            ("three rounds", second, OFTEN, 1),
            ("a flood, which does not wait for answers", Duration::from_millis(1), 400, 0),
            ("now and then", APART, 100, 0),
        ] {
            let mut unheeded = Unheeded::default();
            let now = asks(&mut unheeded, start, every, times);
            assert_eq!(unheeded.all(now).len(), expected, "{case}");
        }
    }

    #[test]
    fn it_ends_with_silence_or_with_a_sign_that_the_address_is_known() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut unheeded = Unheeded::default();
        let now = asks(&mut unheeded, start, second, OFTEN);
        assert_eq!(unheeded.next_due(), Some(now + QUIET));
        assert_eq!(unheeded.all(now + QUIET).len(), 0);
        unheeded.heeded("2001:db8::c003".parse().unwrap(), ROUTER);
        assert_eq!((unheeded.all(now).len(), unheeded.next_due()), (0, None));
        let now = asks(&mut unheeded, start, second, OFTEN);
        unheeded.keep(now, |_| false);
        assert_eq!(unheeded.all(now).len(), 0);
    }

    #[test]
    fn invented_neighbours_take_little_memory() {
        let mut unheeded = Unheeded::default();
        let now = Instant::now();
        for n in 0..10_000_u32 {
            let [a, b, c, d] = n.to_be_bytes();
            unheeded.answered("2001:db8::c003".parse().unwrap(), [2, 0, a, b, c, d], now);
        }
        assert_eq!(unheeded.rows.len(), MOST);
        unheeded.answered("2001:db8::c004".parse().unwrap(), ROUTER, now + APART);
        assert_eq!(unheeded.rows.len(), 1, "old rows make room");
    }
}
