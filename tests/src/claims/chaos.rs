//! Three controllers over a real etcd of three members, of which some are always being killed or frozen while many claim.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sextant_controller::{
    keys::{Key, Keys},
    records::{ClaimRecord, Record},
    registry::{
        Registry,
        etcd::{EtcdOptions, EtcdStore},
    },
};
use sextant_proto::Prefix;
use tokio::runtime::{self, Runtime};

use super::{
    claimers::{self, Book},
    history::{self, Heard},
};
use crate::{Controller, ControllerOptions, Etcd, Lab, SECONDS, lab::daemons::controller_url};

/// How many claim at once.
const CLAIMERS: usize = 64;
const CONTROLLERS: u16 = 3;
const MEMBERS: usize = 3;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// How many claims were acknowledged.
    pub claims: usize,
    /// How many ends.
    pub ends: usize,
    /// Of how many requests nothing is known.
    pub unknown: usize,
    /// How many controllers and members were killed or frozen.
    pub faults: usize,
    /// What cannot be.
    pub violations: Vec<history::Violation>,
}

struct Chaos {
    // Controllers end before etcd, and all before their lab.
    controllers: Vec<Controller>,
    etcd: Etcd,
    runtime: Runtime,
    random: StdRng,
    lab: Lab,
}

/// Has 64 claimers claim for `time` while things fail, and checks what came of it.
///
/// # Errors
/// If the lab itself fails, or does not come to rest.
pub fn run(name: &str, seed: u64, time: Duration) -> anyhow::Result<Outcome> {
    let mut chaos = Chaos::start(name, seed)?;
    let (book, start) = (Arc::new(Book::default()), Instant::now());
    let desks = (1..=CONTROLLERS).map(|number| {
        let _inside = chaos.runtime.enter();
        claimers::Controller::at(&controller_url(number))
    });
    let desks = desks.collect::<anyhow::Result<Vec<_>>>()?;
    let tasks: Vec<_> = (0..CLAIMERS)
        .map(|number| chaos.runtime.spawn(claimers::run(number, seed, desks.clone(), book.clone(), start)))
        .collect();
    let mut faults = 0;
    while start.elapsed() < time {
        faults += chaos.fail()?;
    }
    book.close();
    for task in tasks {
        chaos.runtime.block_on(task)?;
    }
    let (events, last) = (book.events(), chaos.at_rest()?);
    let claims = events.iter().filter(|event| matches!(event.heard, Heard::Done(Some(_)))).count();
    Ok(Outcome {
        claims,
        ends: events.iter().filter(|event| event.heard == Heard::Done(None)).count(),
        unknown: events.iter().filter(|event| event.heard == Heard::Unknown).count(),
        faults,
        violations: history::check(&events, &last),
    })
}

impl Chaos {
    fn start(name: &str, seed: u64) -> anyhow::Result<Self> {
        let lab = Lab::new(name)?;
        let etcd = lab.etcd(MEMBERS, &["--heartbeat-interval=50", "--election-timeout=500"])?;
        let threads = || runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = lab.switch().enter(threads)??;
        let random = StdRng::seed_from_u64(seed);
        let mut chaos = Self { controllers: Vec::new(), etcd, runtime, random, lab };
        for number in 1..=CONTROLLERS {
            let controller = chaos.controller(number)?;
            chaos.controllers.push(controller);
        }
        chaos.controllers.iter().try_for_each(|controller| controller.wait_ready(60 * SECONDS))?;
        let pool = ["pool", "add", "main", "2001:db8:8000::/48", "--host-len", "64"];
        chaos.lab.cli(&pool)?.succeeded()?;
        Ok(chaos)
    }

    fn controller(&self, number: u16) -> anyhow::Result<Controller> {
        let args = ["--down-after", "3", "--quarantine", "5"].map(str::to_owned).to_vec();
        let (store, log) = (Some(self.etcd.store()), "warn".to_owned());
        self.lab.controller(ControllerOptions { number, store, log, args, ..ControllerOptions::default() })
    }

    /// One controller, one member, or one of each is killed or frozen, and comes back; how many were.
    fn fail(&mut self) -> anyhow::Result<usize> {
        let what = self.random.random_range(0..3);
        let index = self.random.random_range(0..usize::from(CONTROLLERS));
        let member = self.random.random_range(0..MEMBERS);
        let kills = [self.random.random_bool(0.5), self.random.random_bool(0.5)];
        let (hits_controller, hits_member) = (what != 0, what != 1);
        if hits_controller {
            let process = &self.controllers[index].process;
            if kills[0] { process.kill()? } else { process.freeze()? }
        }
        if hits_member {
            let process = self.etcd.member(member);
            if kills[1] { process.kill()? } else { process.freeze()? }
        }
        thread::sleep(Duration::from_millis(self.random.random_range(300..2500)));
        if hits_member {
            if kills[1] {
                self.etcd.start_member(&self.lab, member)?
            } else {
                self.etcd.member(member).thaw()?
            }
        }
        if hits_controller && kills[0] {
            let number = u16::try_from(index)? + 1;
            self.controllers[index] = self.controller(number)?;
        } else if hits_controller {
            self.controllers[index].process.thaw()?;
        }
        // Some time in which all is well.
        thread::sleep(Duration::from_millis(self.random.random_range(500..1500)));
        Ok(usize::from(hits_controller) + usize::from(hits_member))
    }

    /// All claims of the store, once all are back.
    fn at_rest(&self) -> anyhow::Result<Vec<(Prefix, String)>> {
        for controller in &self.controllers {
            ensure!(
                controller.process.ended()?.is_none(),
                "a controller ended by itself: {}",
                controller.process.log()
            );
            controller.wait_ready(60 * SECONDS)?;
        }
        let keys = Keys::new(&"default".parse()?);
        let (urls, all) = (self.etcd.urls(), keys.all());
        let listed = self.runtime.spawn(async move {
            let store = EtcdStore::connect(EtcdOptions::new(urls)).await?;
            anyhow::Ok(store.list(&all).await?)
        });
        let listing = self.runtime.block_on(listed)??;
        let mut claims = Vec::new();
        for entry in listing.entries {
            if let Some(Key::Claim(prefix)) = keys.parse(&entry.key) {
                let record = ClaimRecord::decode(&entry.value).context(entry.key)?;
                claims.push((prefix, record.node.to_string()));
            }
        }
        Ok(claims)
    }
}
