//! Real controllers on a real etcd, with continuous faults.

use std::time::Duration;

use sextant_tests::{
    Lab,
    history::run::{Plan, run},
};

/// For how long claimers claim.
const TIME: Duration = Duration::from_secs(40);
/// What there must be at least, for the rest to mean anything.
const CLAIMS: usize = 300;
const ENDS: usize = 100;
const FAULTS: usize = 8;

#[test]
fn i1_claims_are_never_lost_doubled_or_taken_over() {
    let seed: u64 =
        std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEXTANT_SEED={seed}");
    let lab = Lab::new("history of claims").unwrap();
    let report = run(&lab, Plan { time: TIME, seed }).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}; {} faults", report.summary, report.faults);
    assert!(report.summary.claims >= CLAIMS, "{report:?}");
    assert!(report.summary.ends >= ENDS, "{report:?}");
    assert!(report.faults >= FAULTS, "{report:?}");
}
