//! Whatever goes wrong in whatever order: once it stops, the kernel has what it should. The order is random; a
//! failure prints the lot, and `SEXTANT_SEED=… cargo test -p sextant-agent schedules` draws it again.

use std::collections::BTreeMap;

use nix::libc::{EBUSY, EINTR, ENETUNREACH, ENOBUFS, ENODEV, ENOMEM};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::kernel::{NextHop, fake::permanent};

const SCHEDULES: u64 = 200;
/// Some are short: what a later fault has read anew hides what was wrong before.
const STEPS: usize = 60;
const PEERS: u8 = 9;
const ERRNOS: [i32; 6] = [EBUSY, ENODEV, ENETUNREACH, ENOBUFS, ENOMEM, EINTR];
/// A failed route is tried again after a minute at most, and everything is compared each minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Says by which lot a test failed.
struct Lot(u64);

impl Drop for Lot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEXTANT_SEED={}", self.0);
        }
    }
}

/// The engine's input, and the faults meanwhile.
struct Schedule {
    random: StdRng,
    it: Fixture,
    revision: u64,
    /// Each peer's next hop, by its number.
    peers: BTreeMap<u8, u8>,
    done: Vec<String>,
}

#[tokio::test(start_paused = true)]
async fn it_converges_after_any_schedule_of_faults() {
    let given: Option<u64> = std::env::var("SEXTANT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or(0..SCHEDULES, |seed| seed..seed + 1);
    for seed in seeds {
        let _lot = Lot(seed);
        let mut schedule = Schedule::draw(seed);
        for _ in 0..schedule.random.random_range(1..STEPS) {
            schedule.step().await;
        }
        schedule.heals().await;
    }
}

impl Schedule {
    fn draw(seed: u64) -> Self {
        let (random, it) = (StdRng::seed_from_u64(seed), Fixture::start());
        let mut schedule = Self { random, it, revision: 5, peers: BTreeMap::new(), done: Vec::new() };
        schedule.tell();
        schedule
    }

    async fn step(&mut self) {
        let what = self.random.random_range(0..14);
        self.done.push(format!("{what}"));
        let nth = self.random.random_range(0..6);
        let errno = *ERRNOS.choose(&mut self.random).unwrap();
        let prefix = prefix(self.random.random_range(2..2 + PEERS));
        let kernel = &self.it.kernel;
        match what {
            0 => kernel.fail_change(nth, errno),
            1 => kernel.fail_destination(prefix, errno),
            2 => kernel.heal_destination(prefix),
            3 => kernel.break_apply_after(if nth == 5 { usize::MAX } else { nth }),
            4 => kernel.break_reads(nth),
            5 => kernel.truncate_next_dump(nth),
            6 => kernel.overrun(),
            7 => kernel.change_link(2, |link| link.up = false),
            8 => self.uplink_comes(),
            9 | 10 => self.somebody_meddles(),
            11 | 12 => self.tell(),
            _ => self.passes().await,
        }
        if self.random.random_bool(0.5) {
            self.passes().await;
        }
    }

    async fn passes(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..3000))).await;
    }

    fn uplink_comes(&self) {
        self.it.kernel.change_link(2, |link| link.up = true);
        self.it.kernel.put_address(permanent(2, "2001:db8::1".parse().unwrap(), 64));
    }

    /// The peers change: some come, some go, some move.
    fn tell(&mut self) {
        for n in 2..2 + PEERS {
            match self.random.random_range(0..4) {
                0 => drop(self.peers.remove(&n)),
                1 => drop(self.peers.insert(n, self.random.random_range(2..100))),
                _ => {}
            }
        }
        self.revision += 1;
        let moved = |(&n, &hop): (&u8, &u8)| Peer {
            next_hops: vec![format!("2001:db8::{hop:x}").parse().unwrap()],
            ..peer(n)
        };
        self.it.tell_peers(self.revision, self.peers.iter().map(moved).collect(), false);
    }

    /// Deletes one of our routes, or puts another in its place: a look-alike or another's.
    fn somebody_meddles(&mut self) {
        let kernel = &self.it.kernel;
        let mut routes = kernel.all_routes();
        routes.retain(|route| route.protocol == RouteProtocol::OURS || route.protocol == RouteProtocol(4));
        let Some(route) = routes.choose(&mut self.random) else { return };
        let via = NextHop { gateway: Some("2001:db8::99".parse().unwrap()), link: 2, onlink: false };
        let target = RouteTarget::Via([via].into());
        let protocol = if self.random.random_bool(0.5) { RouteProtocol::OURS } else { RouteProtocol(4) };
        // While the uplink is down, a next hop over it is refused to everybody.
        let _refused = match self.random.random_range(0..2) {
            0 => kernel.foreign_remove(route.key).map(drop),
            _ => kernel.foreign_replace(Route { mtu: None, key: route.key, protocol, target }),
        };
    }

    /// Nothing goes wrong any more: then everything is in sync and stays so.
    async fn heals(mut self) {
        self.it.kernel.heal();
        self.uplink_comes();
        for route in self.it.kernel.all_routes() {
            if route.protocol == RouteProtocol(4) {
                self.it.kernel.foreign_remove(route.key).unwrap();
            }
        }
        self.tell();
        let right = self.right();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.routes() != right || !self.is_content() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "after {:?}\n{:#?}\nshould be\n{right:#?}\n{:?}",
                self.done,
                self.routes(),
                self.it.report.borrow()
            );
            tokio::time::sleep(SOON).await;
        }
        self.it.kernel.take_writes();
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(self.it.kernel.writes(), [], "all is right, and still something is written");
    }

    fn routes(&self) -> BTreeMap<RouteKey, RouteTarget> {
        self.it.kernel.routes_of_ours().into_iter().map(|route| (route.key, route.target)).collect()
    }

    fn right(&self) -> BTreeMap<RouteKey, RouteTarget> {
        let refused = |destination| {
            let key = RouteKey { table: 254, destination, metric: 4_000_000_000 };
            (key, RouteTarget::Unreachable)
        };
        let via = |(&n, &hop): (&u8, &u8)| {
            let gateway = Some(format!("2001:db8::{hop:x}").parse().unwrap());
            (key(n), RouteTarget::Via([NextHop { gateway, link: 2, onlink: false }].into()))
        };
        self.peers.iter().map(via).chain([refused(prefix(1)), refused(pool().prefix)]).collect()
    }

    fn is_content(&self) -> bool {
        let report = self.it.report.borrow();
        let applied = report.applied == Some((self.it.incarnation, Revision(self.revision)));
        applied && report.failed.is_empty() && report.conflicts.is_empty() && report.announcement.is_some()
    }
}
