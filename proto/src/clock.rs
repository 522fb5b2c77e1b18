//! The wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time in milliseconds since the Unix epoch, for people to read. No decision depends on it; 0 before 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
