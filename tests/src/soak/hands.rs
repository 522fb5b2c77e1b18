//! Careless hands: routes deleted and changed, links that flap, daemons killed and frozen, hosts drained, in an order
//! drawn by lot; after each, the cluster must be as it should be again.

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
#[command(name = "tests/soak hands")]
struct Options {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// What the lots are drawn by; drawn itself unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Something careless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    DeletesARoute,
    ChangesARoute,
    FlushesOurRoutes,
    FlapsTheUplink,
    FlapsLoopback,
    KillsTheAgent,
    FreezesTheAgent,
    KillsTheController,
    Drains,
}

const HANDS: [Hand; 9] = [
    Hand::DeletesARoute,
    Hand::ChangesARoute,
    Hand::FlushesOurRoutes,
    Hand::FlapsTheUplink,
    Hand::FlapsLoopback,
    Hand::KillsTheAgent,
    Hand::FreezesTheAgent,
    Hand::KillsTheController,
    Hand::Drains,
];

/// Runs it; panics, with all logs' ends, where the cluster does not come right again.
///
/// # Errors
/// If the lab itself fails.
pub fn run() -> anyhow::Result<()> {
    let program = std::iter::once("tests/soak hands".to_owned());
    let options = Options::parse_from(program.chain(catalogue::options()));
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("tests/soak hands --minutes {} --seed {seed}", options.minutes);
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start("careless hands", HOSTS, GUIDE);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut done = 0;
    while Instant::now() < end {
        let hand = HANDS[random.random_range(0..HANDS.len())];
        let victim = random.random_range(0..usize::from(HOSTS));
        println!("{done:5}  {hand:?} on h{}", victim + 1);
        hand.acts(&mut cluster, victim)?;
        cluster.settle();
        cluster.expect_full_mesh();
        done += 1;
    }
    println!("{done} careless hands, and all was right again each time");
    Ok(())
}

impl Hand {
    fn acts(self, cluster: &mut Cluster, victim: usize) -> anyhow::Result<()> {
        let peer = cluster.hosts[(victim + 1) % usize::from(HOSTS)].name().to_owned();
        let prefix = cluster.prefix(&peer);
        let host = &cluster.hosts[victim];
        match self {
            Self::DeletesARoute => host.ip(&format!("-6 route del {prefix} proto 66")).map(|_| ()),
            Self::ChangesARoute => {
                let route = format!("{prefix} via 2001:db8::dead dev eth0 proto 66 metric 512");
                host.ip(&format!("-6 route replace {route}")).map(|_| ())
            }
            Self::FlushesOurRoutes => host.ip("-6 route flush proto 66").map(|_| ()),
            Self::FlapsTheUplink => (0..5).try_for_each(|_| {
                host.ip("link set eth0 down")?;
                host.ip("link set eth0 up")?;
                host.ip(&format!("-6 address replace {}/64 dev eth0 nodad", host.address())).map(|_| ())
            }),
            Self::FlapsLoopback => host.ip_batch("link set lo down\nlink set lo up"),
            Self::KillsTheAgent => {
                cluster.agents[victim].process.kill()?;
                cluster.agents.remove(victim);
                cluster.start_agent(victim);
                let anew = cluster.agents.pop().expect("just started");
                cluster.agents.insert(victim, anew);
                Ok(())
            }
            Self::FreezesTheAgent => {
                let process = &cluster.agents[victim].process;
                process.freeze()?;
                std::thread::sleep(200 * MILLISECONDS);
                process.thaw()
            }
            Self::KillsTheController => {
                cluster.controller = None;
                cluster.start_controller(ControllerOptions::default());
                Ok(())
            }
            Self::Drains => {
                let name = host.name().to_owned();
                cluster.sextant(&["node", "drain", &name, "--timeout", "20s"]);
                cluster.sextant(&["node", "undrain", &name, "--timeout", "20s"]);
                anyhow::ensure!(
                    cluster.node(&name)["state"] == "ready",
                    "{name} is not back after {:?}",
                    20 * SECONDS
                );
                Ok(())
            }
        }
    }
}
