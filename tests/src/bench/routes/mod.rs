//! The time to write routes to the kernel: bare sends of the same messages, bare sends with nexthop objects, the agent's
//! batches, its whole engine, the rtnetlink library, `ip -batch`, BIRD from its start, and FRR's zebra with routes from BGP.
//! Each has a namespace and a process of its own.

mod bare;
pub(super) mod child;
mod engine;
mod objects;
pub(super) mod others;
mod rtnetlink;

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use anyhow::Context;
use clap::Parser;
use serde_json::Value;

use crate::{Lab, catalogue, demo::columns};

const MIB: f64 = (1 << 20) as f64;

#[derive(Debug, Parser)]
#[command(name = "tests/bench routes")]
struct Options {
    /// Numbers of routes, measured in turn
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_value = "10000,100000")]
    routes: Vec<u32>,
    /// Number of measurements of each; the table shows the medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these methods: bare, batches, objects, engine, rtnetlink, ip, bird, frr
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    only: Vec<String>,
    /// Measures in this process, which is in a namespace of its own
    #[arg(long, hide = true)]
    child: Option<child::Kind>,
}

/// One step of a method, e.g. adding all routes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) took: Duration,
    cpu: Duration,
}

/// The result of a method.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) steps: BTreeMap<String, Step>,
    /// Peak memory, in octets.
    pub(super) peak: u64,
}

type Method = (&'static str, fn(&Lab, &str, u32) -> anyhow::Result<Measured>);

const METHODS: &[Method] = &[
    ("bare", |lab, name, routes| child::measure(lab, name, child::Kind::Bare, routes)),
    ("batches", |lab, name, routes| child::measure(lab, name, child::Kind::Batches, routes)),
    ("objects", |lab, name, routes| child::measure(lab, name, child::Kind::Objects, routes)),
    ("engine", |lab, name, routes| child::measure(lab, name, child::Kind::Engine, routes)),
    ("rtnetlink", |lab, name, routes| child::measure(lab, name, child::Kind::Rtnetlink, routes)),
    ("ip", others::ip),
    ("bird", others::bird),
    ("frr", others::frr),
];

/// Runs it.
///
/// # Errors
/// If the lab fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/bench routes".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    if let Some(kind) = options.child {
        return child::run(kind, options.routes[0]);
    }
    let lab = Lab::new("bench routes")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    println!("tests/bench routes --rounds {}   ({cores} cores, {build}, medians)", options.rounds);
    for routes in &options.routes {
        let mut all: BTreeMap<&str, Vec<Measured>> = BTreeMap::new();
        for round in 1..=options.rounds {
            for (number, (name, measure)) in METHODS.iter().enumerate() {
                if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
                    continue;
                }
                progress(&format!("{routes} routes, round {round}: {name}"));
                let host = format!("r{routes}-{round}-{number}");
                let measured = measure(&lab, &host, *routes).with_context(|| (*name).to_owned())?;
                all.entry(name).or_default().push(measured);
            }
        }
        progress("");
        print(*routes, &all.into_iter().map(|(name, all)| (name, median(&all))).collect());
    }
    Ok(())
}

fn median(all: &[Measured]) -> Measured {
    let mid = |mut times: Vec<Duration>| {
        times.sort();
        times[(times.len() - 1) / 2]
    };
    let steps = all[0].steps.keys().filter_map(|name| {
        let of: Vec<Step> = all.iter().filter_map(|one| one.steps.get(name).copied()).collect();
        let took = mid(of.iter().map(|step| step.took).collect());
        let cpu = mid(of.iter().map(|step| step.cpu).collect());
        (!of.is_empty()).then(|| (name.clone(), Step { took, cpu }))
    });
    let peak = all.iter().map(|one| one.peak).max().unwrap_or_default();
    Measured { steps: steps.collect(), peak }
}

fn print(routes: u32, all: &BTreeMap<&str, Measured>) {
    let bare = all.get("bare");
    let mut rows =
        vec![["", "step", "time", "of bare", "CPU", "of bare", "peak memory"].map(str::to_owned).to_vec()];
    for (name, _) in METHODS {
        let Some(measured) = all.get(name) else { continue };
        let mut first = true;
        for step in ["add", "after the first route", "replace", "delete", "dump", "resync", "restart"] {
            let Some(it) = measured.steps.get(step) else { continue };
            let base = bare.and_then(|bare| bare.steps.get(reference(step)));
            let of_bare = |it: Duration, base: Option<Duration>| {
                base.map_or_else(String::new, |base| format!("{:.2} ×", ratio(it, base)))
            };
            rows.push(vec![
                if first { (*name).to_owned() } else { String::new() },
                step.to_owned(),
                format!("{:.3} s", it.took.as_secs_f64()),
                of_bare(it.took, base.map(|base| base.took)),
                format!("{:.3} s", it.cpu.as_secs_f64()),
                of_bare(it.cpu, base.map(|base| base.cpu)),
                if first { format!("{:.1} MiB", measured.peak as f64 / MIB) } else { String::new() },
            ]);
            first = false;
        }
    }
    println!("\n{routes} routes\n\n{}\n", columns(&rows, |column| column > 1));
    for line in targets(all) {
        println!("{line}");
    }
}

/// The step of the bare sends with which a step is compared.
fn reference(step: &str) -> &str {
    match step {
        "after the first route" => "add",
        "resync" | "restart" => "dump",
        other => other,
    }
}

/// The targets of DESIGN §9, one line each.
fn targets(all: &BTreeMap<&str, Measured>) -> Vec<String> {
    let of = |name: &str, step: &str| all.get(name)?.steps.get(step).copied();
    let compared = |title: &str, ours: Option<Duration>, theirs: Option<Duration>, target: f64| {
        let ratio = ratio(ours?, theirs?);
        let met = if ratio <= target { "met" } else { "missed" };
        Some(format!("{title}: {ratio:.2} ×; target {target:.1} ×: {met}"))
    };
    let line = |title: &str, ours: Option<Step>, theirs: Option<Step>, target: f64| {
        compared(title, ours.map(|step| step.took), theirs.map(|step| step.took), target)
    };
    let engine = of("engine", "add");
    let processor = |name, step| of(name, step).map(|step| step.cpu);
    let lines = [
        line("agent's batches against bare sends", of("batches", "add"), of("bare", "add"), 1.3),
        line("engine's cold start against bare sends", engine, of("bare", "add"), 1.3),
        line("engine's cold start against ip -batch", engine, of("ip", "add"), 0.5),
        line("engine's cold start against BIRD's cold start", engine, of("bird", "add"), 1.0),
        line(
            "engine's cold start against zebra after its first route",
            engine,
            of("frr", "after the first route"),
            1.0,
        ),
        // The begin and end of a resync are not visible from outside, only its CPU time.
        compared(
            "resync without change against a filtered dump, CPU time",
            processor("engine", "resync"),
            processor("bare", "dump"),
            1.5,
        ),
    ];
    lines.into_iter().flatten().collect()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-9)
}

fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what}\x1b[K");
    }
}

impl Measured {
    fn to_json(&self) -> Value {
        let steps = self.steps.iter().map(|(name, step)| {
            (name.clone(), serde_json::json!([step.took.as_secs_f64(), step.cpu.as_secs_f64()]))
        });
        serde_json::json!({ "steps": steps.collect::<serde_json::Map<_, _>>(), "peak": self.peak })
    }

    fn from_json(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let steps = value["steps"].as_object().context("no steps")?.iter().map(|(name, step)| {
            let secs = |nth: usize| step[nth].as_f64().map(Duration::from_secs_f64).context("no time");
            Ok((name.clone(), Step { took: secs(0)?, cpu: secs(1)? }))
        });
        Ok(Self {
            steps: steps.collect::<anyhow::Result<_>>()?,
            peak: value["peak"].as_u64().context("no peak")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(millis: u64) -> Measured {
        let time = Duration::from_millis(millis);
        let steps = [("add".to_owned(), Step { took: time, cpu: time })];
        Measured { steps: steps.into(), peak: millis }
    }

    #[test]
    fn a_measurement_survives_json() {
        let one = measured(250);
        assert_eq!(Measured::from_json(&one.to_json().to_string()).unwrap(), one);
    }

    #[test]
    fn times_are_medians_and_memory_is_the_maximum() {
        assert_eq!(
            median(&[measured(30), measured(10), measured(20)]),
            Measured { peak: 30, ..measured(20) }
        );
    }

    #[test]
    fn missed_targets_are_reported() {
        let all = [
            ("bare", measured(100)),
            ("batches", measured(120)),
            ("ip", measured(200)),
            ("engine", measured(140)),
        ];
        let lines = targets(&all.into()).join("\n");
        assert!(lines.contains("batches against bare sends: 1.20 ×; target 1.3 ×: met"), "{lines}");
        assert!(lines.contains("cold start against bare sends: 1.40 ×; target 1.3 ×: missed"), "{lines}");
        assert!(lines.contains("against ip -batch: 0.70 ×; target 0.5 ×: missed"), "{lines}");
    }
}
