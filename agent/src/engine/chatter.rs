//! Keeps the log readable while the host is not at rest: a flapping link would tell the same thing over and over. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many lines may come in a row.
const BURST: u32 = 20;
/// Then one in this time.
const REFILL: Duration = Duration::from_secs(3);

/// How much may be said.
#[derive(Debug)]
pub(crate) struct Chatter {
    left: u32,
    refilled: Instant,
    withheld: u64,
}

impl Chatter {
    /// Much may be said.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now, withheld: 0 }
    }

    /// Whether a line may be said now; if so, how many were withheld since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.duration_since(self.refilled);
        let refills = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(BURST);
            self.refilled = now;
        }
        if self.left == 0 {
            self.withheld += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flapping_link_is_told_of_and_then_counted() {
        let start = Instant::now();
        let mut chatter = Chatter::new(start);
        let said =
            (0..200).filter(|n| chatter.admit(start + Duration::from_millis(100) * *n).is_some()).count();
        assert!((20..=30).contains(&said), "{said}");
        let later = start + Duration::from_secs(60);
        assert!(chatter.admit(later).is_some_and(|withheld| withheld > 0), "what was withheld is counted");
        assert_eq!(chatter.admit(later), Some(0));
    }
}
