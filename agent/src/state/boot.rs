//! The time since this host booted: independent of the wall clock, and continuous over restarts of the agent.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Seconds since the boot, suspend included (CLOCK_BOOTTIME), with two decimal places.
const UPTIME: &str = "/proc/uptime";

/// A time on this host's boot clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// The id of the boot; empty if unknown.
    pub boot_id: String,
    /// Milliseconds since that boot.
    pub millis: u64,
}

impl Uptime {
    /// Now.
    pub fn now() -> Self {
        let text = fs::read_to_string(UPTIME).unwrap_or_default();
        let seconds: f64 = text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let uptime = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self { boot_id: boot_id(), millis: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The time since `earlier`; zero if the host has booted in between.
    pub fn since(&self, earlier: &Self) -> Duration {
        let same = self.boot_id == earlier.boot_id && !self.boot_id.is_empty();
        Duration::from_millis(if same { self.millis.saturating_sub(earlier.millis) } else { 0 })
    }
}

/// The id of this boot of the host; empty if it cannot be read.
pub fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_of_two_boots_are_not_compared() {
        let at = |boot: &str, millis| Uptime { boot_id: boot.into(), millis };
        for (case, earlier, later, passed) in [
            ("one boot", at("a", 5), at("a", 7), 2),
            ("another boot", at("a", 5), at("b", 7), 0),
            ("of an older version", Uptime::default(), at("a", 7), 0),
            ("unknown boots", at("", 5), at("", 7), 0),
            ("a container's clock that was reset", at("a", 7), at("a", 5), 0),
        ] {
            assert_eq!(later.since(&earlier), Duration::from_millis(passed), "{case}");
        }
    }

    #[test]
    fn uptime_and_boot_id_are_read() {
        let now = Uptime::now();
        assert!(now.millis > 0 && !now.boot_id.is_empty(), "{now:?}");
    }
}
