//! Waiting for a condition with a deadline, and saying both sides when it does not come.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

/// One second.
pub const SECONDS: Duration = Duration::from_secs(1);
/// One millisecond.
pub const MILLISECONDS: Duration = Duration::from_millis(1);

/// How often a condition is asked.
const INTERVAL: Duration = Duration::from_millis(8);

/// Asks `condition` until it is `Ok`, and gives that.
///
/// # Panics
/// On the deadline, with `what` and the last error.
#[track_caller]
pub fn poll<T, E: Display>(what: &str, deadline: Duration, condition: impl FnMut() -> Result<T, E>) -> T {
    match try_poll(deadline, condition) {
        Ok(value) => value,
        Err(state) => panic!("expected within {deadline:?}: {what}\nbut at last: {state:#}"),
    }
}

/// Asks `actual` until it is `expected`, compared line by line without regard to outer white space.
///
/// # Panics
/// On the deadline, with both texts.
#[track_caller]
pub fn expect_text<E: Display>(
    what: &str,
    deadline: Duration,
    expected: &str,
    mut actual: impl FnMut() -> Result<String, E>,
) {
    let expected = trimmed(expected);
    poll(what, deadline, || match actual() {
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
    fn the_last_state_is_in_the_message() {
        let outcome = std::panic::catch_unwind(|| {
            expect_text("a to be b", MILLISECONDS, "b", || Ok::<_, String>("a".to_owned()));
        });
        let message = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, "expected within 1ms: a to be b\nbut at last: a\nexpected: b");
    }

    #[test]
    fn what_comes_in_the_end_is_taken() {
        let mut count = 0;
        let value = poll("three asks", SECONDS, || {
            count += 1;
            if count == 3 { Ok(count) } else { Err("not yet") }
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn indentation_does_not_count() {
        expect_text("routes", MILLISECONDS, "\n  a\n  b\n", || Ok::<_, String>("a\nb".to_owned()));
    }
}
