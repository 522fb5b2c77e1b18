//! As long as asked: rounds of claims while controllers and members of etcd fail, each with a seed of its own.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;

use crate::{catalogue, claims::chaos};

/// How long a round is.
const ROUND: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(name = "tests/soak claims")]
struct Options {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// The first round's seed; each further one counts up
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// With all that cannot be, in the first round that has such.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/soak claims".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let first = options.seed.unwrap_or_else(rand::random);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut seed = first;
    while Instant::now() < end {
        println!("tests/soak claims --minutes 1 --seed {seed}");
        let outcome = chaos::run("soak claims", seed, ROUND)?;
        let texts: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
        ensure!(texts.is_empty(), "{}", texts.join("\n"));
        println!(
            "  {} claims, {} ends, {} without a word, {} faults: nothing lost, doubled or seized",
            outcome.claims, outcome.ends, outcome.unknown, outcome.faults
        );
        seed = seed.wrapping_add(1);
    }
    Ok(())
}
