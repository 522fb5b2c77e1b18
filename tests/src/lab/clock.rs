//! Processes with a wrong wall clock, by libfaketime. Their monotonic clock is unchanged.

use std::path::Path;

/// The environment of a process with a wall clock that is `ahead` seconds ahead, or behind if negative.
///
/// # Panics
/// If libfaketime is not installed.
pub fn wrong_clock(ahead: i64) -> Vec<(String, String)> {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "{library} is missing; install libfaketime");
    let pairs = [
        ("LD_PRELOAD", library),
        ("FAKETIME", format!("{ahead:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}
