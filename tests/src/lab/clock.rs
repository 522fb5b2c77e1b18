//! A process whose wall clock is wrong, by libfaketime. Its monotonic clock is right.

use std::path::Path;

/// The environment of a process whose wall clock is `ahead` seconds ahead; behind, if negative.
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
