//! Claimers at three controllers on a real etcd of three members, all of which are harmed by lot; at the end, and every few
//! minutes, the checker over what came of it. See [`crate::history`].

use std::time::{Duration, Instant};

use clap::Parser;

use crate::{
    Lab, catalogue,
    history::run::{self, Plan},
};

/// How long one history gets before it is checked, and a new one begun in a new lab.
const EACH: Duration = Duration::from_secs(300);

#[derive(Debug, Parser)]
#[command(
    name = "tests/soak claims",
    after_help = "Example:\n  sudo tests/soak claims --seconds 3600 --seed 7"
)]
struct Options {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// What the lots are drawn by; drawn itself unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// If a claim was lost, doubled or seized, with all that was asked; or if the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/soak claims".to_owned());
    let options = Options::try_parse_from(program.chain(catalogue::options()))?;
    let first = options.seed.unwrap_or_else(rand::random);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    for seed in (0..).map(|history| first.wrapping_add(history)) {
        let time = end.saturating_duration_since(Instant::now()).min(EACH);
        if time.is_zero() {
            break;
        }
        println!("tests/soak claims --seconds {} --seed {seed}", time.as_secs().max(1));
        let report = run::run(&Lab::new("soak claims")?, Plan { time, seed })?;
        println!("{}; {} faults: no claim was lost, doubled or seized", report.summary, report.faults);
    }
    Ok(())
}
