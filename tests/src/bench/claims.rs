//! Claims per second, against transactions of the store alone; and a controller's start on a store with many nodes (DESIGN §9).
//!
//! Clients claim at one controller by gRPC, each on its own connection, each time for another node. The reference is the same
//! transaction (guards, operations, lengths of values) without a controller: on etcd with etcd-client in a loop, on the same
//! member with the same concurrency; for the embedded store, with its code on a file beside the controller's.

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

/// The deadline of each wait.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(
    name = "tests/bench claims",
    after_help = "Example:\n  sudo tests/bench claims --clients 128 --store etcd"
)]
struct Options {
    /// Number of concurrent clients
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    clients: u32,
    /// Duration of each of the two measurements, in seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Number of nodes in the filled store; 0 skips the start on a filled store
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    nodes: u32,
    /// Only this store; default: both
    #[arg(long, value_name = "KIND", value_enum)]
    store: Option<StoreKind>,
    /// Log level of the controller
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// Measures, and prints the results.
///
/// # Errors
/// If a claim or transaction is refused, or the lab fails.
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
        row(&format!("{store}: the same transactions without a controller"), rates.bare),
    ];
    println!("{}", columns(&rows, |column| column > 0));
    println!("claims / transactions = {:.2}   (target: {target})\n", rates.claims / rates.bare);
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
        row("controller on a store with", "0 nodes".into(), format!("{nodes} nodes")),
        row("start → /readyz", seconds(start.empty.ready), seconds(start.full.ready)),
        row("resident memory", mib(start.empty.usage.rss), mib(start.full.usage.rss)),
        row("CPU time", seconds(start.empty.usage.cpu), seconds(start.full.usage.cpu)),
    ];
    let each = start.full.usage.rss.saturating_sub(start.empty.usage.rss) as f64 / f64::from(nodes);
    println!("{}", columns(&rows, |column| column > 0));
    println!("memory per node: {:.2} KiB\n", each / 1024.0);
}
