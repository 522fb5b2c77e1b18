//! How many claims a second, beside what the store itself does; and a controller's start on a store that is full
//! (DESIGN §9).
//!
//! Clients ask one controller by gRPC, each on a connection of its own, each time for another node. The reference is the
//! same transaction (guards, operations, lengths of values) without a controller: on etcd by a plain loop of etcd-client's,
//! on the same member at the same concurrency; embedded by the store's own code on a file beside the controller's.

mod filled;
mod rates;
mod transaction;

use std::time::Duration;

use clap::Parser;

use self::{
    filled::Start,
    rates::{Place, Rates},
};
use crate::{Lab, SECONDS, StoreKind, catalogue, demo::columns};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(
    name = "tests/bench claims",
    after_help = "Example:\n  sudo tests/bench claims --clients 128 --store etcd"
)]
struct Options {
    /// How many ask at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    clients: u32,
    /// For how long each is measured, twice
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How many nodes the full store has; none: no start on a full store
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    nodes: u32,
    /// Only this store; else both
    #[arg(long, value_name = "KIND", value_enum)]
    store: Option<StoreKind>,
    /// What the controller logs
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Measures, and prints what came of it.
///
/// # Errors
/// If something is refused, or the lab fails.
pub fn run() -> anyhow::Result<()> {
    let arguments = std::iter::once("tests/bench claims".to_owned()).chain(catalogue::options());
    let options = Options::try_parse_from(arguments)?;
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let Options { clients, seconds, nodes, log, .. } = &options;
    println!(
        "tests/bench claims --clients {clients} --seconds {seconds} --nodes {nodes} --log {log}   ({cores} cores, {build})\n"
    );
    for kind in [StoreKind::Embedded, StoreKind::Etcd] {
        if options.store.is_none_or(|only| only == kind) {
            measure(kind, &options)?;
        }
    }
    Ok(())
}

fn measure(kind: StoreKind, options: &Options) -> anyhow::Result<()> {
    let lab = Lab::new("bench claims")?;
    let place = Place::new(&lab, kind)?;
    let rates = rates::measure(&place, options.clients, options.seconds * SECONDS, &options.log)?;
    print_rates(kind, &rates);
    if options.nodes > 0 {
        let start = filled::measure(kind, options.nodes, &options.log)?;
        print_start(kind, options.nodes, &start);
    }
    Ok(())
}

fn print_rates(kind: StoreKind, rates: &Rates) {
    let (store, target) = match kind {
        StoreKind::Embedded => ("embedded store", "at least 2000 claims/s"),
        StoreKind::Etcd => ("etcd, three members", "at least 0.50"),
    };
    let row = |name: &str, rate: f64| vec![name.to_owned(), format!("{rate:.0}/s")];
    let rows = [
        row(&format!("{store}: claims by gRPC"), rates.claims),
        row(&format!("{store}: the same transactions, bare"), rates.bare),
    ];
    println!("{}", columns(&rows, |column| column > 0));
    println!("claims / bare transactions = {:.2}   (target: {target})\n", rates.claims / rates.bare);
}

fn print_start(kind: StoreKind, nodes: u32, start: &Start) {
    let mib = |octets: u64| format!("{:.1} MiB", octets as f64 / f64::from(1 << 20));
    let name = match kind {
        StoreKind::Embedded => "embedded",
        StoreKind::Etcd => "etcd",
    };
    let row = |what: &str, empty: String, full: String| vec![format!("{name}: {what}"), empty, full];
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let rows = [
        row("a controller on a store of", "0 nodes".into(), format!("{nodes} nodes")),
        row("start → /readyz", seconds(start.empty.ready), seconds(start.full.ready)),
        row("resident memory", mib(start.empty.usage.rss), mib(start.full.usage.rss)),
        row("time on a processor", seconds(start.empty.usage.cpu), seconds(start.full.usage.cpu)),
    ];
    let each = start.full.usage.rss.saturating_sub(start.empty.usage.rss) as f64 / f64::from(nodes);
    println!("{}", columns(&rows, |column| column > 0));
    println!("memory for each node: {:.2} KiB\n", each / 1024.0);
}
