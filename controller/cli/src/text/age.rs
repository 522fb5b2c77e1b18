//! Ages for people.

/// The age of a time, in its largest unit; `-` if the time is unknown (0).
pub(crate) fn age(now_unix_ms: u64, then_unix_ms: u64) -> String {
    if then_unix_ms == 0 {
        return "-".into();
    }
    // The clocks of two hosts differ: a time in the future counts as now.
    let seconds = now_unix_ms.saturating_sub(then_unix_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_show_their_largest_unit() {
        let now = 1_000_000_000;
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (200_000, "2d")]
        {
            assert_eq!(age(now, now - seconds * 1000), text);
        }
        assert_eq!(age(now, now + 5000), "0s");
        assert_eq!(age(now, 0), "-");
    }
}
