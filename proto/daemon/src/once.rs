//! Log lines about conditions that several objects may have: one line a minute for each. Pure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// The shortest time between two lines about one condition.
const EACH: Duration = Duration::from_secs(60);
/// More conditions at a time are one.
const MOST: usize = 1024;

/// The conditions that were logged within the last minute.
#[derive(Debug, Default)]
pub struct OncePerMinute {
    logged: BTreeMap<String, (Instant, u64)>,
}

impl OncePerMinute {
    /// If a line about this condition may be written now, the number of lines that were suppressed since its last one. Numbers in
    /// `text` do not distinguish conditions.
    pub fn admit(&mut self, text: &str, now: Instant) -> Option<u64> {
        self.admit_key(condition(text), now)
    }

    /// As [`Self::admit`], about an object whose name may have numbers.
    pub fn admit_of(&mut self, object: &str, text: &str, now: Instant) -> Option<u64> {
        self.admit_key(format!("{object}\0{}", condition(text)), now)
    }

    fn admit_key(&mut self, key: String, now: Instant) -> Option<u64> {
        let is_recent = |at: Instant| now.duration_since(at) < EACH;
        if self.logged.len() >= MOST {
            self.logged.retain(|_, (at, _)| is_recent(*at));
        }
        let key =
            if self.logged.len() >= MOST && !self.logged.contains_key(&key) { String::new() } else { key };
        let (at, suppressed) = self.logged.entry(key).or_insert((now, u64::MAX));
        if *suppressed != u64::MAX && is_recent(*at) {
            *suppressed += 1;
            return None;
        }
        *at = now;
        Some(match std::mem::take(suppressed) {
            u64::MAX => 0,
            suppressed => suppressed,
        })
    }
}

/// The text without its numbers: a count or a time in it does not make another condition of it.
pub(crate) fn condition(text: &str) -> String {
    let mut condition = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            digit if digit.is_ascii_digit() => {
                if !condition.ends_with('#') {
                    condition.push('#');
                }
            }
            other => condition.push(other),
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_is_logged_once_a_minute_with_the_number_of_suppressed_lines() {
        let (mut lines, start) = (OncePerMinute::default(), Instant::now());
        let mut logged = Vec::new();
        for n in 0..130_u64 {
            let now = start + Duration::from_secs(n);
            let text = if n % 2 == 0 { format!("failed {n} times") } else { "other".to_owned() };
            logged.extend(lines.admit(&text, now).map(|suppressed| (n, suppressed)));
        }
        assert_eq!(logged, [(0, 0), (1, 0), (60, 29), (61, 29), (120, 29), (121, 29)]);
    }

    #[test]
    fn objects_differ_by_their_numbers() {
        let (mut lines, now) = (OncePerMinute::default(), Instant::now());
        assert_eq!(lines.admit_of("eth0", "gone for 1 s", now), Some(0));
        assert_eq!(lines.admit_of("eth1", "gone for 1 s", now), Some(0));
        assert_eq!(lines.admit_of("eth1", "gone for 2 s", now), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut lines, now) = (OncePerMinute::default(), Instant::now());
        let logged = (0..5_000).filter(|n| lines.admit_of(&n.to_string(), "", now).is_some()).count();
        assert_eq!(logged, MOST + 1);
        assert!(lines.logged.len() <= MOST + 1);
        assert_eq!(lines.admit("later", now + EACH), Some(0));
    }
}
