//! Runs claimers during faults of controllers and etcd, and checks the history.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rand::{SeedableRng, rngs::StdRng};
use sextant_controller::{
    keys::Keys,
    registry::etcd::{EtcdOptions, EtcdStore},
};
use tokio::runtime::{self, Runtime};

use super::{
    Operation, Stored,
    check::{Summary, Violation, check},
    claimers::{CLAIMERS, Claimer, Shared},
    faults::{CONTROLLERS, Servers},
    stored,
};
use crate::Lab;

/// Pools whose prefixes have different lengths, some so small that they are full at times: name, prefix, `--host-len`.
const POOLS: [(&str, &str, &str); 5] = [
    ("long", "2001:db8:1000::/64", "76"),
    ("longer", "2001:db8:2000::/64", "70"),
    ("main", "2001:db8:8000::/40", "64"),
    ("short", "2001:db8:9000::/48", "56"),
    ("small", "2001:db8:a000::/59", "64"),
];

/// The plan of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// For how long claimers claim.
    pub time: Duration,
    /// The seed of all random choices.
    pub seed: u64,
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The counts of the history.
    pub summary: Summary,
    /// The number of faults.
    pub faults: usize,
}

/// Runs the plan, and prints each fault.
///
/// # Errors
/// If the history has violations, with the requests of the affected nodes; or if the lab fails.
pub fn run(lab: &Lab, plan: Plan) -> anyhow::Result<Report> {
    let mut servers = Servers::start(lab)?;
    for (name, prefix, host_len) in POOLS {
        let args = ["pool", "add", name, prefix, "--host-len", host_len, "--container-len", "80"];
        lab.cli_of(CONTROLLERS[0], &args)?.succeeded()?;
    }
    let recorder = super::recorder::Recorder::default();
    let pools = POOLS.map(|(name, ..)| name).to_vec();
    let shared = Arc::new(Shared { urls: servers.urls(), pools, recorder, stop: false.into() });
    // Its threads start in the switch's namespace, from which all servers are reachable, and stay there.
    let runtime = lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build())??;
    let claimers = {
        let _inside = runtime.enter();
        (0..CLAIMERS)
            .map(|number| Claimer::new(number, plan.seed, shared.clone()))
            .collect::<anyhow::Result<Vec<_>>>()?
    };
    let claimers: Vec<_> = claimers.into_iter().map(|claimer| runtime.spawn(claimer.run())).collect();
    let faults = harm(&mut servers, plan)?;
    servers.ready()?;
    shared.stop.store(true, Ordering::Relaxed);
    for claimer in claimers {
        runtime.block_on(claimer).context("a claimer")?;
    }
    let stored = read(&runtime, &servers)?;
    let history = shared.recorder.history();
    match check(&history, &stored) {
        Ok(summary) => Ok(Report { summary, faults }),
        Err(violations) => bail!("{}", report_violations(lab, plan, &violations, &history, &stored)),
    }
}

fn harm(servers: &mut Servers<'_>, plan: Plan) -> anyhow::Result<usize> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let (began, mut faults) = (Instant::now(), 0);
    while began.elapsed() < plan.time {
        let at = began.elapsed();
        let (count, what) = servers.harm(&mut random)?;
        println!("{:6.1} s  {what}", at.as_secs_f64());
        faults += count;
    }
    Ok(faults)
}

fn read(runtime: &Runtime, servers: &Servers<'_>) -> anyhow::Result<Stored> {
    let options = EtcdOptions::new(servers.etcd().urls());
    let read = async move {
        let store = EtcdStore::connect(options).await?;
        stored::read(&store, &Keys::new(&"default".parse()?)).await
    };
    runtime.block_on(runtime.spawn(read))?
}

/// The violations; the whole history goes to a file that outlives the lab.
fn report_violations(
    lab: &Lab,
    plan: Plan,
    violations: &[Violation],
    history: &[Operation],
    stored: &Stored,
) -> String {
    let lines = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join("\n");
    let found = lines(&mut violations.iter().map(ToString::to_string));
    let whole = format!(
        "{found}\n{}\n{}",
        lines(&mut history.iter().map(|operation| format!("{operation:?}"))),
        lines(&mut stored.claims.iter().map(|claim| format!("{claim:?}")))
    );
    let path = std::env::temp_dir().join(format!("sextant-history-{}-{}", lab.id(), plan.seed));
    let kept = match fs::write(&path, whole) {
        Ok(()) => format!("the whole history is in {}", path.display()),
        Err(error) => format!("the history cannot be kept in {}: {error}", path.display()),
    };
    let named = |operation: &&Operation| found.contains(&format!(" {} ", operation.node));
    let about = history.iter().filter(named).take(200).map(|operation| format!("{operation:?}"));
    format!("seed {}:\n{found}\n{}\n{kept}", plan.seed, lines(&mut about.into_iter()))
}
