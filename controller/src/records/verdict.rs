//! What agents see of a host without an agent.

use bytes::Bytes;
use prost::Message;
use sextant_proto::store::v1 as stored;

use super::{Record, RecordError};

/// How many agents see a host forwarding, and how many see it dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observers {
    /// It answers these.
    pub forwarding: usize,
    /// It does not answer these.
    pub dead: usize,
}

impl Observers {
    /// Counts one more.
    pub fn add(&mut self, forwarding: bool) {
        *if forwarding { &mut self.forwarding } else { &mut self.dead } += 1;
    }

    /// Whether the host counts as forwarding. One observer against others does not hold (DESIGN I14): it may be that of an agent
    /// which is wrong, and nobody could ever forget the host.
    fn says_forwarding(self) -> bool {
        self.forwarding > 1 || (self.forwarding == 1 && self.dead == 0)
    }
}

/// `verdicts/…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictRecord {
    /// Whether any of the controller's agents sees the host forwarding; else one of them sees it dead.
    pub forwarding: bool,
    /// Only one of them sees it forwarding.
    pub lone: bool,
    /// One of them sees it dead.
    pub dead: bool,
    /// Since when.
    pub since_unix_ms: u64,
}

/// What all agents together see of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether it forwards.
    pub forwarding: bool,
    /// Since when.
    pub since_unix_ms: u64,
}

impl VerdictRecord {
    /// Of the agents of one controller.
    pub fn of(observers: Observers, since_unix_ms: u64) -> Self {
        let Observers { forwarding, dead } = observers;
        Self { forwarding: forwarding > 0, lone: forwarding == 1, dead: dead > 0, since_unix_ms }
    }

    /// Whether both say the same, not regarding since when.
    pub fn agrees(&self, other: &Self) -> bool {
        Self { since_unix_ms: 0, ..*self } == Self { since_unix_ms: 0, ..*other }
    }

    /// At least so many observers. A record of a controller that did not count has all weight that it may have.
    fn observers(&self) -> Observers {
        let forwarding = if !self.forwarding {
            0
        } else if self.lone {
            1
        } else {
            2
        };
        Observers { forwarding, dead: usize::from(self.dead || !self.forwarding) }
    }
}

/// The verdict of all controllers' agents on one host; its time is that of the first which agrees.
pub fn seen(records: &[VerdictRecord]) -> Option<Seen> {
    let mut observers = Observers::default();
    for record in records {
        let Observers { forwarding, dead } = record.observers();
        observers.forwarding += forwarding;
        observers.dead += dead;
    }
    let forwarding = observers.says_forwarding();
    let agreeing = records.iter().filter(|record| {
        let observers = record.observers();
        if forwarding { observers.forwarding > 0 } else { observers.dead > 0 }
    });
    agreeing.map(|record| record.since_unix_ms).min().map(|since_unix_ms| Seen { forwarding, since_unix_ms })
}

impl Record for VerdictRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let stored::Verdict { forwarding, since_unix_ms, lone, dead } = Message::decode(value)?;
        Ok(Self { forwarding, lone, dead, since_unix_ms })
    }

    fn encode(&self) -> Bytes {
        let Self { forwarding, lone, dead, since_unix_ms } = *self;
        stored::Verdict { forwarding, since_unix_ms, lone, dead }.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(forwarding: usize, dead: usize, since: u64) -> VerdictRecord {
        VerdictRecord::of(Observers { forwarding, dead }, since)
    }

    #[test]
    fn a_host_forwards_if_agents_say_so_but_not_by_one_observer_against_others() {
        let of_older = VerdictRecord { lone: false, dead: false, ..of(1, 0, 4) };
        type Expected = Option<(bool, u64)>;
        let table: [(&str, &[VerdictRecord], Expected); 9] = [
            ("nobody", &[], None),
            ("the only observer", &[of(1, 0, 3)], Some((true, 3))),
            ("one against one", &[of(1, 1, 3)], Some((false, 3))),
            ("one against others elsewhere", &[of(1, 0, 3), of(0, 5, 7)], Some((false, 7))),
            ("one here and one there", &[of(1, 0, 5), of(1, 8, 3)], Some((true, 3))),
            ("some", &[of(2, 40, 3)], Some((true, 3))),
            ("all dead", &[of(0, 4, 6), of(0, 1, 2)], Some((false, 2))),
            ("of a controller that does not count", &[of_older, of(0, 3, 1)], Some((true, 4))),
            ("one that does, and one that does not count", &[of(1, 0, 2), of_older], Some((true, 2))),
        ];
        for (what, records, expected) in table {
            let found = seen(records).map(|seen| (seen.forwarding, seen.since_unix_ms));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for record in [of(1, 0, 3), of(2, 1, 4), of(0, 1, 5)] {
            assert_eq!(VerdictRecord::decode(&record.encode()), Ok(record));
        }
    }
}
