//! When the neighbour table is full, or a link has too large a part of it. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use sextant_proto::Prefix;
use tokio::time::Instant;

use super::findings;
use crate::{kernel::NeighbourTable, problems::Finding};

/// A link with this part of the table's limit in unanswered entries is crowded: 64 of 1,024.
pub(super) const CROWDED: u32 = 16;
/// So many readings in a row: a burst is none.
const IN_A_ROW: u32 = 2;
/// A problem is reported for so long after the last time.
const REPORTED: Duration = Duration::from_secs(30);
/// The numbers in the report of a lasting problem are renewed no more often than this.
const RENEWED: Duration = Duration::from_secs(60);

/// Addresses on a link that are being resolved without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// The link's name.
    pub(super) link: String,
    pub(super) count: u32,
    /// One of the addresses.
    pub(super) example: Ipv6Addr,
    /// The on-link prefix that it is in, if any.
    pub(super) prefix: Option<Prefix>,
    /// How long an address on the link is resolved, in milliseconds.
    pub(super) fails_after_ms: u64,
}

/// The readings so far.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    last: Option<NeighbourTable>,
    full: Option<Refusals>,
    crowds: BTreeMap<String, Crowd>,
}

/// New entries that the kernel refused.
#[derive(Debug)]
struct Refusals {
    count: u64,
    first: Instant,
    last: Instant,
    /// As the report has it: the count, and its time.
    shown: (u64, Instant),
}

#[derive(Debug)]
struct Crowd {
    in_a_row: u32,
    /// When it was crowded last, after several readings.
    last: Option<Instant>,
    /// As the report has it.
    shown: Unanswered,
    shown_at: Instant,
}

/// Whether there are enough entries for a crowded link.
pub(super) fn may_be_crowded(table: &NeighbourTable) -> bool {
    table.entries >= table.limit / CROWDED
}

impl Pressure {
    /// Takes the next reading. Returns whether so many addresses did not answer since the last one that links may be crowded. (An
    /// address fails after 3 s at most, so a crowded link has two thirds of its number of failures in two seconds.)
    pub(super) fn take(&mut self, table: NeighbourTable, now: Instant) -> bool {
        let before = self.last.replace(table).unwrap_or(table);
        let refused = table.refused.saturating_sub(before.refused);
        if refused > 0 {
            let new = Refusals { count: 0, first: now, last: now, shown: (refused, now) };
            let full = self.full.get_or_insert(new);
            (full.count, full.last) = (full.count + refused, now);
            if now.duration_since(full.shown.1) >= RENEWED {
                full.shown = (full.count, now);
            }
        }
        let failed = table.failed.saturating_sub(before.failed);
        may_be_crowded(&table) && failed >= u64::from(table.limit / CROWDED / 2)
    }

    /// Takes the unanswered addresses of all links at the last reading; none where they were not counted.
    pub(super) fn count(&mut self, unanswered: Vec<Unanswered>, now: Instant) {
        let limit = self.last.map_or(u32::MAX, |table| table.limit);
        let crowded: Vec<_> = unanswered.into_iter().filter(|it| it.count >= limit / CROWDED).collect();
        for (link, crowd) in &mut self.crowds {
            if !crowded.iter().any(|it| it.link == *link) {
                crowd.in_a_row = 0;
            }
        }
        for it in crowded {
            let new = || Crowd { in_a_row: 0, last: None, shown: it.clone(), shown_at: now };
            let crowd = self.crowds.entry(it.link.clone()).or_insert_with(new);
            crowd.in_a_row += 1;
            if crowd.in_a_row >= IN_A_ROW {
                crowd.last = Some(now);
            }
            if now.duration_since(crowd.shown_at) >= RENEWED {
                (crowd.shown, crowd.shown_at) = (it, now);
            }
        }
        self.forget_old(now);
    }

    /// The report.
    pub(super) fn findings(&mut self, now: Instant) -> Vec<Finding> {
        self.shown(now, false)
    }

    /// The report, with the rules that limit packets to unused addresses.
    pub(super) fn findings_with_rules(&mut self, now: Instant) -> Vec<Finding> {
        self.shown(now, true)
    }

    fn shown(&mut self, now: Instant, with_rules: bool) -> Vec<Finding> {
        self.forget_old(now);
        let Some(table) = self.last else { return Vec::new() };
        let crowded: Vec<_> =
            self.crowds.values().filter(|it| it.last.is_some()).map(|it| &it.shown).collect();
        let full = self.full.as_ref().map(|full| {
            let (count, at) = full.shown;
            findings::full(&table, count, at.duration_since(full.first), &crowded)
        });
        full.into_iter()
            .chain(crowded.iter().map(|it| findings::unanswered(&table, it, with_rules)))
            .collect()
    }

    fn forget_old(&mut self, now: Instant) {
        let recent = |last: Instant| now.duration_since(last) < REPORTED;
        self.full.take_if(|full| !recent(full.last));
        self.crowds.retain(|_, crowd| crowd.in_a_row > 0 || crowd.last.is_some_and(recent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: NeighbourTable =
        NeighbourTable { entries: 600, soft_limit: 512, limit: 1024, failed: 0, refused: 0 };

    fn on(link: &str, count: u32) -> Unanswered {
        let (example, prefix) = ("2001:db8:1::5".parse().unwrap(), "2001:db8:1::/80".parse().ok());
        Unanswered { link: link.into(), count, example, prefix, fails_after_ms: 300 }
    }

    fn kinds(pressure: &mut Pressure, now: Instant) -> Vec<&'static str> {
        pressure.findings(now).iter().map(|it| it.what).collect()
    }

    /// Times, two seconds apart.
    fn times(start: Instant) -> impl Fn(u32) -> Instant {
        move |n| start + Duration::from_secs(2) * n
    }

    #[test]
    fn links_are_counted_only_while_many_addresses_do_not_answer() {
        let (mut pressure, at) = (Pressure::default(), times(Instant::now()));
        let failed = |failed| NeighbourTable { failed, ..TABLE };
        assert!(!pressure.take(failed(5000), at(0)), "of an earlier time");
        assert!(!pressure.take(failed(5031), at(1)));
        assert!(pressure.take(failed(5063), at(2)));
        assert!(!pressure.take(NeighbourTable { entries: 63, ..failed(9000) }, at(3)), "few entries");
    }

    #[test]
    fn a_link_is_crowded_after_two_readings_and_for_half_a_minute_after_the_last() {
        let (mut pressure, at) = (Pressure::default(), times(Instant::now()));
        let mut reading = |n: u32, counts: Vec<Unanswered>| {
            pressure.take(TABLE, at(n));
            pressure.count(counts, at(n));
            let found = pressure.findings(at(n));
            found.into_iter().map(|it| it.saw).collect::<Vec<_>>()
        };
        assert!(reading(0, vec![on("docker0", 500)]).is_empty(), "a burst");
        assert!(reading(1, vec![]).is_empty());
        assert!(reading(2, vec![on("docker0", 64), on("br-x", 63)]).is_empty());
        let first = reading(3, vec![on("docker0", 70), on("br-x", 63)]);
        assert!(matches!(&first[..], [saw] if saw.contains("docker0") && saw.contains("64 of")), "{first:?}");
        for n in 4..30 {
            assert_eq!(reading(n, vec![on("docker0", 100 + n)]), first, "the text is stable for a minute");
        }
        assert!(reading(32, vec![on("docker0", 132)])[0].contains("132 of"), "renewed");
        assert_eq!(reading(46, vec![]).len(), 1);
        assert!(reading(47, vec![]).is_empty());
    }

    #[test]
    fn a_table_that_refuses_entries_is_full_for_half_a_minute_after_the_last() {
        let (mut pressure, at) = (Pressure::default(), times(Instant::now()));
        let refused = |refused| NeighbourTable { refused, ..TABLE };
        pressure.take(refused(221), at(0));
        assert!(kinds(&mut pressure, at(0)).is_empty(), "it was full some time");
        pressure.take(refused(224), at(1));
        let found = pressure.findings(at(1));
        assert_eq!((found.len(), found[0].what), (1, "neighbour-table-full"));
        assert!(found[0].saw.contains("refused 3 new entries"), "{found:?}");
        for n in 2..31 {
            pressure.take(refused(224 + u64::from(n)), at(n));
        }
        assert_eq!(pressure.findings(at(30))[0].saw, found[0].saw);
        pressure.take(refused(300), at(31));
        let renewed = &pressure.findings(at(31))[0].saw;
        assert!(renewed.contains("refused 79 new entries") && renewed.contains(" in 60 s:"), "{renewed}");
        assert_eq!(kinds(&mut pressure, at(45)).len(), 1);
        assert!(kinds(&mut pressure, at(46)).is_empty());
    }
}
