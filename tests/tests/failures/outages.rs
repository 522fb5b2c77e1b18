//! Outages chosen at random on real parts, longer than sessions, hold-down and the recovery window: agents and controllers frozen,
//! killed and isolated, hosts forgotten, etcd emptied or taken back, settings and clocks changed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_tests::{AgentOptions, BRIDGE, Host, MILLISECONDS, SECONDS, lab::clock::wrong_clock, poll};

use crate::etcd::{Cluster, Setup};

/// How many schedules are drawn unless `SEXTANT_SCHEDULES` is set.
const SCHEDULES: u64 = 10;
const HOSTS: usize = 3;
const CONTROLLERS: usize = 2;
/// What hosts have instead of [`BRIDGE`] for a while.
const OTHER_BRIDGE: &str = "br-other";
/// `--recovery-window` and `--hold-down` below.
const RECOVERY: Duration = Duration::from_secs(6);
/// Within this time after a fault and the recovery window, the cluster is healthy again.
const WELL: Duration = Duration::from_secs(30);
/// Shorter than sessions, longer than sessions and hold-down, longer than the recovery window too.
const SPANS: [u64; 3] = [1, 5, 9];
/// From when on an agent that is silent must show in the status.
const SHOWS: Duration = Duration::from_secs(5);

const SETUP: Setup =
    Setup { etcd: &[], login: false, controllers: &["--recovery-window", "6", "--hold-down", "4"] };

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    FreezeAgent(usize),
    FreezeController(usize),
    KillAgent(usize),
    KillController(usize),
    /// The host's cable is pulled from the switch, without its link going down.
    Cut(usize),
    /// With another pool, which does not exist, until the end.
    Pool(usize),
    /// With another bridge until the end.
    Bridge(usize),
    /// The process runs under a clock that is so many seconds ahead until the end.
    AgentClock(usize, i64),
    ControllerClock(usize, i64),
    Forget(usize),
    /// The agent is frozen, and forgotten once it counts as down.
    ForgetSilent(usize),
    Wipe {
        stopped: bool,
    },
    Restore {
        stopped: bool,
    },
}

impl Outage {
    fn draw(random: &mut StdRng) -> Self {
        let (host, controller) = (random.random_range(0..HOSTS), random.random_range(0..CONTROLLERS));
        let clock = *[-86_400, 60, 63_072_000].choose(random).unwrap();
        let stopped = random.random_bool(0.5);
        match random.random_range(0..17) {
            0 | 1 => Self::FreezeAgent(host),
            2 | 3 => Self::FreezeController(controller),
            4 => Self::KillAgent(host),
            5 => Self::KillController(controller),
            6 => Self::Cut(host),
            7 => Self::Pool(host),
            8 => Self::AgentClock(host, clock),
            9 => Self::ControllerClock(controller, clock),
            10 | 11 => Self::Forget(host),
            12 => Self::ForgetSilent(host),
            13 => Self::Bridge(host),
            14 => Self::Wipe { stopped },
            _ => Self::Restore { stopped },
        }
    }

    /// The host whose agent is silent meanwhile.
    fn silences(self) -> Option<usize> {
        match self {
            Self::FreezeAgent(host) | Self::KillAgent(host) | Self::Cut(host) => Some(host),
            // One that was forgotten is no node any more.
            _ => None,
        }
    }

    fn replaces_the_store(self) -> bool {
        matches!(self, Self::Wipe { .. } | Self::Restore { .. })
    }
}

impl Cluster {
    fn agent_anew(&mut self, host: usize, options: AgentOptions) {
        drop(self.agents.remove(host));
        self.start_agent_with(host, options);
        let agent = self.agents.pop().unwrap();
        self.agents.insert(host, agent);
    }

    fn controller_anew(&mut self, index: usize, environment: &[(String, String)]) {
        drop(self.controllers.remove(index));
        self.start_controller_in(u16::try_from(index).unwrap() + 1, environment);
        let controller = self.controllers.pop().unwrap();
        self.controllers.insert(index, controller);
    }

    fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::FreezeAgent(host) => self.agents[host].process.freeze().unwrap(),
            Outage::FreezeController(index) => self.controllers[index].process.freeze().unwrap(),
            Outage::KillAgent(host) => self.agents[host].process.kill().unwrap(),
            Outage::KillController(index) => self.controllers[index].process.kill().unwrap(),
            Outage::Cut(host) => self.hosts[host].isolate().unwrap(),
            Outage::Pool(host) => {
                let args = ["--pool", "nosuch"].map(str::to_owned).to_vec();
                self.agent_anew(host, AgentOptions { args, ..AgentOptions::default() });
            }
            Outage::Bridge(host) => {
                let args = ["--bridge", OTHER_BRIDGE].map(str::to_owned).to_vec();
                self.agent_anew(host, AgentOptions { args, ..AgentOptions::default() });
            }
            Outage::AgentClock(host, ahead) => {
                let environment = wrong_clock(ahead);
                self.agent_anew(host, AgentOptions { environment, ..AgentOptions::default() });
            }
            Outage::ControllerClock(index, ahead) => self.controller_anew(index, &wrong_clock(ahead)),
            Outage::Forget(host) => self.forget(host),
            Outage::ForgetSilent(host) => {
                self.agents[host].process.freeze().unwrap();
                let name = self.hosts[host].name().to_owned();
                poll("the frozen agent counts as down", WELL, || {
                    let nodes = self.nodes()?;
                    let down = nodes.iter().any(|node| node["name"] == *name && node["down"] == true);
                    anyhow::ensure!(down, "{nodes:?}");
                    anyhow::Ok(())
                });
                self.forget(host);
            }
            Outage::Wipe { stopped } | Outage::Restore { stopped } => {
                if stopped {
                    self.controllers.iter().for_each(|controller| controller.process.kill().unwrap());
                }
                match outage {
                    Outage::Wipe { .. } => self.etcd.wipe(&self.lab).unwrap(),
                    _ => self.etcd.restore_snapshot(&self.lab, "early").unwrap(),
                }
            }
        }
    }

    fn end(&mut self, outage: Outage) {
        match outage {
            Outage::FreezeAgent(host) | Outage::ForgetSilent(host) => {
                self.agents[host].process.thaw().unwrap();
            }
            Outage::FreezeController(index) => self.controllers[index].process.thaw().unwrap(),
            Outage::Cut(host) => self.hosts[host].reconnect().unwrap(),
            Outage::KillAgent(host)
            | Outage::Pool(host)
            | Outage::Bridge(host)
            | Outage::AgentClock(host, _) => {
                self.agent_anew(host, AgentOptions::default());
            }
            Outage::KillController(index) | Outage::ControllerClock(index, _) => {
                self.controller_anew(index, &[])
            }
            Outage::Forget(_) | Outage::Wipe { .. } | Outage::Restore { .. } => {}
        }
        self.restart_what_ended();
    }

    fn forget(&self, host: usize) {
        self.sextant(&["node", "forget", "--force", self.hosts[host].name()]);
    }

    /// As systemd does with a controller that has ended.
    fn restart_what_ended(&mut self) {
        for index in 0..CONTROLLERS {
            if self.controllers[index].process.ended().unwrap().is_some() {
                self.controller_anew(index, &[]);
            }
        }
    }

    fn status(&self) -> anyhow::Result<String> {
        Ok(self.lab.cli(&["status"])?.succeeded()?.stdout)
    }

    /// No address is on two hosts' bridges.
    fn unique(&self) {
        let of = |host: &Host| -> BTreeSet<_> {
            let bridges = [BRIDGE, OTHER_BRIDGE].into_iter();
            bridges.filter_map(|bridge| host.address_of(bridge).ok()).map(|(address, _)| address).collect()
        };
        let mut addresses: Vec<_> = self.hosts.iter().flat_map(of).collect();
        addresses.sort();
        assert!(addresses.is_sorted_by(|one, other| one < other), "I1: {addresses:?}");
    }

    /// Lets time pass; what must always hold is looked at meanwhile.
    fn passes(&mut self, time: Duration, restarts: bool) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.unique();
            if restarts {
                self.restart_what_ended();
            }
            std::thread::sleep(200 * MILLISECONDS);
        }
    }
}

/// Runs one schedule on a cluster that is well, and leaves it well.
fn run(cluster: &mut Cluster, random: &mut StdRng) {
    let outage = Outage::draw(random);
    let span = Duration::from_secs(*SPANS.choose(random).unwrap());
    println!("  {outage:?} for {span:?}");
    let before = cluster.prefixes();
    cluster.begin(outage);
    let is_wipe = outage.replaces_the_store();
    cluster.passes(
        span,
        is_wipe && !matches!(outage, Outage::Wipe { stopped: true } | Outage::Restore { stopped: true }),
    );
    // A cut or frozen controller 1 cannot be asked, nor one that has another clock be believed about times.
    if let (Some(host), true) = (outage.silences(), span >= SHOWS) {
        let name = cluster.hosts[host].name();
        poll("status names the silent agent", 3 * SECONDS, || {
            let status = cluster.status()?;
            anyhow::ensure!(status.contains(&format!("node {name} ")), "{status}");
            anyhow::Ok(())
        });
    }
    cluster.end(outage);
    let allowed = if is_wipe { RECOVERY + WELL } else { WELL };
    let deadline = Instant::now() + allowed;
    loop {
        cluster.unique();
        cluster.restart_what_ended();
        let last = match cluster.status() {
            Ok(status) if status.starts_with("All is well: 3 nodes") && all_ready(cluster) => break,
            Ok(status) => status,
            Err(error) => format!("{error:#}"),
        };
        assert!(Instant::now() < deadline, "not well within {allowed:?} after {outage:?}: {last}");
        std::thread::sleep(300 * MILLISECONDS);
    }
    cluster.settle();
    cluster.expect_full_mesh();
    let after = cluster.prefixes();
    // The claim of one that was silent for longer than hold-down ends, unless its peers see it forwarding; isolated, they do not.
    let may_end = match outage {
        Outage::Forget(host) | Outage::ForgetSilent(host) | Outage::Cut(host) => {
            Some(format!("\"{}\"", cluster.hosts[host].name()))
        }
        _ => None,
    };
    for (one, other) in before.iter().zip(&after).filter(|(one, _)| Some(&one.0) != may_end.as_ref()) {
        assert_eq!(one, other, "I2 after {outage:?}");
    }
}

fn all_ready(cluster: &Cluster) -> bool {
    let ready = |nodes: Vec<serde_json::Value>| {
        nodes.len() == HOSTS && nodes.iter().all(|node| node["state"] == "ready" && node["down"] == false)
    };
    cluster.nodes().is_ok_and(ready)
}

#[test]
fn after_random_outages_every_node_is_ready_with_its_own_prefix() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SEXTANT_SEED").unwrap_or_else(rand::random);
    let count = number("SEXTANT_SCHEDULES").unwrap_or(SCHEDULES);
    let mut cluster = Cluster::start_with("outages", u16::try_from(HOSTS).unwrap(), SETUP);
    cluster.etcd.save_snapshot(&cluster.lab, "early").unwrap();
    for seed in (0..count).map(|index| first.wrapping_add(index)) {
        println!("SEXTANT_SEED={seed} SEXTANT_SCHEDULES=1");
        run(&mut cluster, &mut StdRng::seed_from_u64(seed));
        // The next restore is of a state that the present claims follow from.
        cluster.etcd.save_snapshot(&cluster.lab, "early").unwrap();
    }
}
