//! Durations as people write them.

use std::time::Duration;

use crate::quoted;

/// The longest time that can be asked for.
const MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a time; write a whole number and ms, s, m or h, e.g. 500ms, 30s or 2m, at most a year"
)]
pub struct DurationError(String);

/// A time like `30s`, `2m`, `500ms` or `1h`.
///
/// # Errors
/// If it is not of that form, or longer than a year.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(quoted(text));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(refused()),
    };
    let millis = number.checked_mul(unit_ms).ok_or_else(refused)?;
    Some(Duration::from_millis(millis)).filter(|time| *time <= MAX).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_fix() {
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "1d", "9999999999999999999s", "9999999999h", "ü"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{text}\"")) && error.contains("30s"), "{error}");
        }
    }
}
