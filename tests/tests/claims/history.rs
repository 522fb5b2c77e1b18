//! A minute of claims while controllers and members of etcd are killed and frozen.

use std::time::Duration;

use sextant_tests::claims::chaos;

#[test]
fn i1_what_is_acknowledged_is_never_lost_doubled_or_seized() {
    let seed: u64 =
        std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEXTANT_SEED={seed}");
    let outcome = chaos::run("claims history", seed, Duration::from_secs(45)).unwrap();
    let texts: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
    println!(
        "{} claims, {} ends, {} unknown, {} faults",
        outcome.claims, outcome.ends, outcome.unknown, outcome.faults
    );
    assert!(texts.is_empty(), "{}", texts.join("\n"));
    assert!(
        outcome.claims >= 300 && outcome.ends >= 50 && outcome.faults >= 10,
        "too little happened: {outcome:?}"
    );
}
