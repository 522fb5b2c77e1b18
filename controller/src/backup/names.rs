//! The names of automatic backups, and their retention. Pure.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use sextant_proto::Incarnation;

const PREFIX: &str = "sextant-";
const SUFFIX: &str = ".backup";

/// The name of an automatic backup: `sextant-20261129T091040.123Z-0123abcd.backup`. Names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The time of the backup.
    pub unix_ms: u64,
    /// The first digits of the store's incarnation.
    pub incarnation: String,
}

/// A file name that is not a backup's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of an automatic backup")]
pub struct NotOurs;

impl Name {
    /// The name of a backup of this incarnation, taken at `unix_ms`.
    pub fn new(unix_ms: u64, incarnation: Incarnation) -> Self {
        Self { unix_ms, incarnation: short(incarnation) }
    }

    /// Whether it is a backup of this incarnation.
    pub fn is_of(&self, incarnation: Incarnation) -> bool {
        self.incarnation == short(incarnation)
    }
}

fn short(incarnation: Incarnation) -> String {
    incarnation.to_string().chars().take(8).collect()
}

/// A time as RFC 3339 with milliseconds.
pub fn rfc3339(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = rfc3339(self.unix_ms).replace(['-', ':'], "");
        write!(f, "{PREFIX}{time}-{}{SUFFIX}", self.incarnation)
    }
}

impl FromStr for Name {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let middle = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)).ok_or(NotOurs)?;
        let (time, incarnation) = middle.split_once('-').ok_or(NotOurs)?;
        let name = Self { unix_ms: read_time(time).ok_or(NotOurs)?, incarnation: incarnation.to_owned() };
        let hex = incarnation.len() == 8 && incarnation.bytes().all(|it| it.is_ascii_hexdigit());
        // Only what we would have written ourselves.
        if hex && name.to_string() == text { Ok(name) } else { Err(NotOurs) }
    }
}

fn read_time(text: &str) -> Option<u64> {
    if !text.is_ascii() || text.len() != 20 {
        return None;
    }
    let (date, time) = text.split_once('T')?;
    let part = |text: &str, from: usize, to: usize| text.get(from..to).map(str::to_owned);
    let date = [part(date, 0, 4)?, part(date, 4, 6)?, part(date, 6, 8)?].join("-");
    let time = [part(time, 0, 2)?, part(time, 2, 4)?, part(time, 4, 11)?].join(":");
    let time = humantime::parse_rfc3339(&format!("{date}T{time}")).ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The backups to delete after one of `incarnation` was written. Kept are the newest `keep` of it, as many of the incarnation
/// before, and the last one of each of `keep` incarnations before that. So a store that replaces a lost one does not displace
/// the backups of the lost one.
pub fn expired(names: &[Name], incarnation: Incarnation, keep: usize) -> Vec<&Name> {
    let mut newest_first: Vec<_> = names.iter().collect();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let mut own = 0;
    // How many there are of each other incarnation, the newest one first.
    let mut others: Vec<(&str, usize)> = Vec::new();
    newest_first.retain(|name| {
        if name.is_of(incarnation) {
            own += 1;
            return own > keep;
        }
        let nth = others.iter().position(|(it, _)| *it == name.incarnation).unwrap_or_else(|| {
            others.push((&name.incarnation, 0));
            others.len() - 1
        });
        others[nth].1 += 1;
        let stays = if nth == 0 { keep } else { 1 };
        nth > keep || others[nth].1 > stays
    });
    newest_first
}

/// The time until the first backup after a start. The time since the last one counts, as a controller that restarts again and
/// again would otherwise take one each time, or never.
pub fn first_wait(last_unix_ms: Option<u64>, now_unix_ms: u64, every: Duration) -> Duration {
    let Some(last) = last_unix_ms else {
        return Duration::ZERO;
    };
    match now_unix_ms.checked_sub(last) {
        Some(age) => every.saturating_sub(Duration::from_millis(age)),
        // The clock was ahead then.
        None => every,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u128 = 0xaaaa_aaaa << 96;
    const B: u128 = 0xbbbb_bbbb << 96;
    const C: u128 = 0xcccc_cccc << 96;
    const D: u128 = 0xdddd_dddd << 96;

    fn incarnation(bits: u128) -> Incarnation {
        format!("{bits:032x}").parse().unwrap()
    }

    #[test]
    fn names_are_read_back_and_sort_by_time() {
        let name = Name::new(1_796_000_000_123, incarnation(A));
        assert_eq!(name.to_string(), "sextant-20261130T005320.123Z-aaaaaaaa.backup");
        assert_eq!(name.to_string().parse(), Ok(name));
        let times = [0, 999, 1000, 86_400_000, 1_796_000_000_000, 4_102_444_800_000];
        let texts = times.map(|ms| Name::new(ms, incarnation(A)).to_string());
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn other_names_are_not_ours() {
        for text in [
            "",
            "sextant-.backup",
            "before.backup",
            "sextant-20261130T005320.123Z-aaaaaaaa.backup.old",
            "sextant-20261130T005320.123Z-aaaaaaa.backup",
            "sextant-20261130T005320.123Z-aaaaaaag.backup",
            "sextant-20261130T005320Z-aaaaaaaa.backup",
            "sextant-20261330T005320.123Z-aaaaaaaa.backup",
            "sextant-2026113éT00520.123Z-aaaaaaaa.backup",
        ] {
            assert_eq!(text.parse::<Name>(), Err(NotOurs), "{text}");
        }
    }

    #[test]
    fn the_newest_stay_of_this_store_and_of_the_one_before_and_the_last_one_of_earlier_ones() {
        let name = |ms: u64, bits: u128| Name::new(ms, incarnation(bits));
        let names = [name(1, A), name(2, A), name(3, B), name(4, B), name(5, C), name(6, C), name(7, C)];
        let deleted = |names: &[Name], bits, keep| {
            let mut ms: Vec<_> =
                expired(names, incarnation(bits), keep).iter().map(|name| name.unix_ms).collect();
            ms.sort_unstable();
            ms
        };
        assert_eq!(deleted(&names, C, 2), [1, 5]);
        assert_eq!(deleted(&names, C, 1), [1, 3, 5, 6]);
        assert_eq!(deleted(&names, C, 7), [1]);
        assert_eq!(deleted(&names, A, 7), [3]);
        // An empty store stands in for C.
        let names = [&names[..], &[name(8, D)]].concat();
        assert_eq!(deleted(&names, D, 3), [1, 3]);
    }

    #[test]
    fn a_start_waits_for_the_rest_of_the_time() {
        let every = Duration::from_secs(60);
        assert_eq!(first_wait(None, 1_000_000, every), Duration::ZERO);
        assert_eq!(first_wait(Some(990_000), 1_000_000, every), Duration::from_secs(50));
        assert_eq!(first_wait(Some(1_000), 1_000_000, every), Duration::ZERO);
        assert_eq!(first_wait(Some(2_000_000), 1_000_000, every), every);
    }
}
