//! Random faults of a cluster: deleted and changed routes, flapping links, killed and frozen daemons, drained hosts. The
//! cluster must recover from each one.

use std::time::{Duration, Instant};

use clap::Parser;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    ControllerOptions, MILLISECONDS, SECONDS, catalogue,
    cluster::{Cluster, GUIDE},
};

/// How many hosts there are.
const HOSTS: u16 = 4;

#[derive(Debug, Parser)]
#[command(name = "tests/soak chaos")]
struct Options {
    /// Duration
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Seed of the random faults; random by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DeleteRoute,
    ChangeRoute,
    FlushRoutes,
    FlapUplink,
    FlapLoopback,
    KillAgent,
    FreezeAgent,
    KillController,
    Drain,
}

const FAULTS: [Fault; 9] = [
    Fault::DeleteRoute,
    Fault::ChangeRoute,
    Fault::FlushRoutes,
    Fault::FlapUplink,
    Fault::FlapLoopback,
    Fault::KillAgent,
    Fault::FreezeAgent,
    Fault::KillController,
    Fault::Drain,
];

/// Runs it. Panics with the last lines of all logs if the cluster does not recover.
///
/// # Errors
/// If the lab itself fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/soak hands".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("tests/soak chaos --minutes {} --seed {seed}", options.minutes);
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start("soak chaos", HOSTS, GUIDE);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut count = 0;
    while Instant::now() < end {
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        let victim = random.random_range(0..usize::from(HOSTS));
        println!("{count:5}  {fault:?} on h{}", victim + 1);
        fault.inject(&mut cluster, victim)?;
        cluster.settle();
        cluster.expect_full_mesh();
        count += 1;
    }
    println!("{count} faults; the cluster recovered from each");
    Ok(())
}

impl Fault {
    fn inject(self, cluster: &mut Cluster, victim: usize) -> anyhow::Result<()> {
        let peer = cluster.hosts[(victim + 1) % usize::from(HOSTS)].name().to_owned();
        let prefix = cluster.prefix(&peer);
        let host = &cluster.hosts[victim];
        match self {
            Self::DeleteRoute => host.ip(&format!("-6 route del {prefix} proto 66")).map(|_| ()),
            Self::ChangeRoute => {
                let route = format!("{prefix} via 2001:db8::dead dev eth0 proto 66 metric 512");
                host.ip(&format!("-6 route replace {route}")).map(|_| ())
            }
            Self::FlushRoutes => host.ip("-6 route flush proto 66").map(|_| ()),
            Self::FlapUplink => (0..5).try_for_each(|_| {
                host.ip("link set eth0 down")?;
                host.ip("link set eth0 up")?;
                host.ip(&format!("-6 address replace {}/64 dev eth0 nodad", host.address())).map(|_| ())
            }),
            Self::FlapLoopback => host.ip_batch("link set lo down\nlink set lo up"),
            Self::KillAgent => {
                cluster.agents[victim].process.kill()?;
                cluster.agents.remove(victim);
                cluster.start_agent(victim);
                let restarted = cluster.agents.pop().expect("just started");
                cluster.agents.insert(victim, restarted);
                Ok(())
            }
            Self::FreezeAgent => {
                let process = &cluster.agents[victim].process;
                process.freeze()?;
                std::thread::sleep(200 * MILLISECONDS);
                process.thaw()
            }
            Self::KillController => {
                cluster.controller = None;
                cluster.start_controller(ControllerOptions::default());
                Ok(())
            }
            Self::Drain => {
                let name = host.name().to_owned();
                cluster.sextant(&["node", "drain", &name, "--timeout", "20s"]);
                cluster.sextant(&["node", "undrain", &name, "--timeout", "20s"]);
                anyhow::ensure!(
                    cluster.node(&name)["state"] == "ready",
                    "{name} is not ready {:?} after undrain",
                    20 * SECONDS
                );
                Ok(())
            }
        }
    }
}
