//! redb panics on some damage that its checks do not find; this module turns such a panic into an error.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether the next panic of this thread is expected, and not logged. A second one, before the first was caught, ends the
    /// process and is logged.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The panic that was not logged: a second one may be by its cleanup, and says nothing of the cause.
    static FIRST: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs `work`; returns an error if it panics. State that `work` changed must not be used after a panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let log = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.replace(false) {
                FIRST.set(Some(info.to_string()));
                return;
            }
            if let Some(first) = FIRST.take() {
                tracing::error!(first, "a panic of redb, and another one before it was caught");
            }
            log(info);
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    FIRST.set(None);
    result.map_err(|panic| report(&*panic))
}

fn report(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    // The text is for developers, such as "called `Option::unwrap()` on a `None` value".
    tracing::debug!(panic = text, "redb has found damage by a panic");
    "its pages are inconsistent".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_as_damage() {
        let page: Option<u8> = std::hint::black_box(None);
        let result = caught(|| page.unwrap());
        assert_eq!(result, Err("its pages are inconsistent".to_owned()));
        let result = caught(|| [0_u8; 2][usize::from(std::hint::black_box(7_u8))]);
        assert_eq!(result, Err("its pages are inconsistent".to_owned()));
    }
}
