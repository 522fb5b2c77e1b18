//! The agent's BGP speaker: many sessions with one FRR or BIRD, and many routes from a router, against FRR and BIRD.

mod received;
mod sessions;

use std::io::IsTerminal;

use clap::Parser;

use crate::{Lab, catalogue, demo::columns};

#[derive(Debug, Parser)]
#[command(name = "tests/bench bgp")]
struct Options {
    /// Number of speakers, each with a prefix of its own
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=4000))]
    sessions: u16,
    /// Number of routes that a router announces
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    routes: u32,
    /// Runs the speakers in this process, which is in a namespace of its own
    #[arg(long, hide = true)]
    child: bool,
}

/// Runs it.
///
/// # Errors
/// If the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/bench bgp".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    if options.child {
        return sessions::run_speakers(options.sessions);
    }
    let lab = Lab::new("bench bgp")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    println!("tests/bench bgp   ({cores} cores, {build})");
    let rows = sessions::measure(&lab, options.sessions, progress)?;
    progress("");
    println!("\n{} sessions, one process\n\n{}", options.sessions, columns(&rows, |column| column > 0));
    let rows = received::measure(&lab, options.routes, progress)?;
    progress("");
    println!("\n{} routes from one router\n\n{}", options.routes, columns(&rows, |column| column > 0));
    Ok(())
}

fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what}\x1b[K");
    }
}
