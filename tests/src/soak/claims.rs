//! Claimers at three controllers on a real etcd of three members, with random faults of all of them. The checker runs every
//! few minutes and at the end. See [`crate::history`].

use std::time::{Duration, Instant};

use clap::Parser;

use crate::{
    Lab, catalogue,
    history::run::{self, Plan},
};

/// The duration of one history. Then it is checked, and the next one begins in a new lab.
const HISTORY: Duration = Duration::from_secs(300);

#[derive(Debug, Parser)]
#[command(
    name = "tests/soak claims",
    after_help = "Example:\n  sudo tests/soak claims --seconds 3600 --seed 7"
)]
struct Options {
    /// Duration
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// Seed of the random faults; random by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// If a claim was lost, doubled or taken over, with the whole history; or if the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/soak claims".to_owned());
    let options = Options::try_parse_from(program.chain(catalogue::options()))?;
    let first = options.seed.unwrap_or_else(rand::random);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    for seed in (0..).map(|history| first.wrapping_add(history)) {
        let time = end.saturating_duration_since(Instant::now()).min(HISTORY);
        if time.is_zero() {
            break;
        }
        println!("tests/soak claims --seconds {} --seed {seed}", time.as_secs().max(1));
        let report = run::run(&Lab::new("soak claims")?, Plan { time, seed })?;
        println!("{}; {} faults: no claim was lost, doubled or taken over", report.summary, report.faults);
    }
    Ok(())
}
