//! Agents, controllers and etcd members are killed and frozen in random order.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use sextant_tests::Process;

use crate::{
    etcd::Cluster,
    watched::{LONG, Watched},
};

/// Number of random orders.
const ORDERS: u64 = 10;

#[derive(Debug, Clone, Copy)]
enum Part {
    Agent(usize),
    Controller(usize),
    Member(usize),
}

impl Part {
    fn process(self, cluster: &Cluster) -> &Process {
        match self {
            Self::Agent(index) => &cluster.agents[index].process,
            Self::Controller(index) => &cluster.controllers[index].process,
            Self::Member(member) => cluster.etcd.member(member),
        }
    }

    fn start_anew(self, cluster: &mut Cluster) {
        match self {
            Self::Agent(index) => {
                cluster.agents.remove(index);
                cluster.start_agent(index);
                let agent = cluster.agents.pop().unwrap();
                cluster.agents.insert(index, agent);
            }
            Self::Controller(index) => {
                cluster.controllers.remove(index);
                cluster.start_controller(u16::try_from(index).unwrap() + 1);
                let controller = cluster.controllers.pop().unwrap();
                cluster.controllers.insert(index, controller);
            }
            Self::Member(member) => cluster.etcd.start_member(&cluster.lab, member).unwrap(),
        }
    }
}

/// Kills or freezes some or all parts in random order, and restarts them in another random order.
#[test]
fn i5_random_kills_and_freezes_change_no_route() {
    let mut cluster = Cluster::start("drawn orders", 3);
    let watched = Watched::begin(&cluster);
    let first: u64 =
        std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    for seed in (0..ORDERS).map(|order| first.wrapping_add(order)) {
        println!("SEXTANT_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let agents = (0..3).map(Part::Agent);
        let mut parts: Vec<_> =
            agents.chain((0..2).map(Part::Controller)).chain((0..3).map(Part::Member)).collect();
        parts.shuffle(&mut random);
        parts.truncate(random.random_range(2..=8));
        let killed: Vec<_> = parts.iter().map(|part| (*part, random.random_bool(0.5))).collect();
        println!("  {killed:?} (true: killed, false: frozen)");
        for (part, killed) in &killed {
            let process = part.process(&cluster);
            if *killed { process.kill().unwrap() } else { process.freeze().unwrap() }
        }
        watched.passes(LONG);
        watched.routes_stay();
        let mut back = killed;
        back.shuffle(&mut random);
        for (part, killed) in back {
            if killed { part.start_anew(&mut cluster) } else { part.process(&cluster).thaw().unwrap() }
        }
        cluster.settle();
        watched.routes_stay();
    }
    watched.nothing_happened(&cluster);
    cluster.hosts.push(cluster.lab.host("h4").unwrap());
    cluster.start_agent(3);
    cluster.settle();
    cluster.expect_full_mesh();
}
