//! The pause of a task between two looks. Pure.

use std::time::Duration;

/// How many times as long as the look: what is looked at is busy a fifth of the time at most.
const TIMES: u32 = 4;
/// The longest rest. A look that took long may be one during which this process was stopped.
const MOST: Duration = Duration::from_secs(3);

/// The rest after a look that took so long, and at least this long.
pub fn rest_after(took: Duration, least: Duration) -> Duration {
    (took * TIMES).clamp(least, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_longer_after_a_long_look_and_never_without_end() {
        let rest = |took| rest_after(Duration::from_millis(took), Duration::from_millis(250)).as_millis();
        assert_eq!([0, 50, 100, 700, 60_000].map(rest), [250, 250, 400, 2800, 3000]);
    }
}
