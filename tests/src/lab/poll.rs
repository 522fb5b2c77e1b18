//! Waits for a condition with a deadline, and reports the expected and the actual state on the deadline.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// One second.
pub const SECONDS: Duration = Duration::from_secs(1);
/// One millisecond.
pub const MILLISECONDS: Duration = Duration::from_millis(1);

/// The interval between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(8);

/// Checks `condition` until it is `Ok`, and returns its value.
///
/// # Panics
/// On the deadline, with `expected` and the last error.
#[track_caller]
pub fn poll<T, E: Display>(expected: &str, deadline: Duration, condition: impl FnMut() -> Result<T, E>) -> T {
    match try_poll(deadline, condition) {
        Ok(value) => value,
        Err(state) => panic!("expected within {deadline:?}: {expected}\nlast state: {state:#}"),
    }
}

/// Checks `actual` until it equals `expected`, ignoring white space around lines and empty lines.
///
/// # Panics
/// On the deadline, with both texts.
#[track_caller]
pub fn expect_text<E: Display>(
    title: &str,
    deadline: Duration,
    expected: &str,
    mut actual: impl FnMut() -> Result<String, E>,
) {
    let expected = trimmed(expected);
    poll(title, deadline, || match actual() {
        Ok(actual) if trimmed(&actual) == expected => Ok(()),
        Ok(actual) => Err(format!("{}\nexpected: {expected}", trimmed(&actual))),
        Err(error) => Err(format!("{error:#}\nexpected: {expected}")),
    });
}

/// As [`poll`], with the last error instead of a panic.
///
/// # Errors
/// On the deadline, the last one.
pub fn try_poll<T, E>(deadline: Duration, mut condition: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = Instant::now() + deadline;
    loop {
        match condition() {
            Err(_) if Instant::now() < end => thread::sleep(INTERVAL),
            outcome => return outcome,
        }
    }
}

fn trimmed(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_contains_the_last_state() {
        let outcome = std::panic::catch_unwind(|| {
            expect_text("a to be b", MILLISECONDS, "b", || Ok::<_, String>("a".to_owned()));
        });
        let message = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, "expected within 1ms: a to be b\nlast state: a\nexpected: b");
    }

    #[test]
    fn the_first_success_is_returned() {
        let mut count = 0;
        let value = poll("three checks", SECONDS, || {
            count += 1;
            if count == 3 { Ok(count) } else { Err("not yet") }
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn indentation_is_ignored() {
        expect_text("routes", MILLISECONDS, "\n  a\n  b\n", || Ok::<_, String>("a\nb".to_owned()));
    }
}
