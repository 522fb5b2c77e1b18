//! Outages of the embedded store chosen at random, on real parts: its file is moved away, its disk is full, or it is damaged and
//! replaced by a backup.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_tests::{
    ControllerOptions, MILLISECONDS, SECONDS,
    cluster::{Cluster, GUIDE},
    lab::disk::SmallDisk,
    poll,
};

/// How many schedules are drawn unless `SEXTANT_SCHEDULES` is set.
const SCHEDULES: u64 = 6;
const HOSTS: u16 = 2;
/// `--recovery-window` below.
const RECOVERY: Duration = Duration::from_secs(6);
/// Within this time after an outage and the recovery window, the cluster is healthy again.
const WELL: Duration = Duration::from_secs(30);
const PAGE: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    /// The store's file is elsewhere until the end.
    Away,
    /// Its disk has no room until the end.
    Full,
    /// So many of its pages are overwritten while the controller is down.
    Damaged(usize),
    /// Its end is missing.
    Truncated,
}

struct Testbed {
    cluster: Cluster,
    disk: SmallDisk,
    /// What was acknowledged.
    reserved: Vec<String>,
    asked: u32,
}

impl Testbed {
    fn start() -> Self {
        let mut cluster = Cluster::without_agents("embedded outages", HOSTS, GUIDE);
        cluster.controller = None;
        let disk = SmallDisk::mount(&cluster.lab, 8).unwrap();
        let mut testbed = Self { cluster, disk, reserved: Vec::new(), asked: 0 };
        testbed.start_controller();
        testbed.cluster.add_pool();
        (0..testbed.cluster.hosts.len()).for_each(|index| testbed.cluster.start_agent(index));
        testbed.expect_healthy(RECOVERY + WELL, "the start");
        testbed
    }

    fn store(&self) -> PathBuf {
        self.disk.path().join("store")
    }

    fn options(&self) -> ControllerOptions {
        let store = Some(format!("embedded:{}", self.store().display()));
        let window = RECOVERY.as_secs().to_string();
        let args = ["--recovery-window", &window, "--down-after", "2"].map(str::to_owned).to_vec();
        ControllerOptions { store, args, ..ControllerOptions::default() }
    }

    fn start_controller(&mut self) {
        let options = self.options();
        self.cluster.start_controller(options);
    }

    /// Changes something; whether that was acknowledged.
    fn reserve(&mut self) -> bool {
        self.asked += 1;
        let prefix = format!("2001:db8:80ff:{:x}::/64", self.asked);
        let answer = self.cluster.lab.cli(&["reserve", &prefix]).unwrap();
        match answer.code {
            0 => self.reserved.push(prefix),
            5 => assert!(answer.stderr.contains("store"), "it names the store: {answer:?}"),
            _ => panic!("{answer:?}"),
        }
        answer.code == 0
    }

    fn prefixes(&self) -> Vec<String> {
        let names = self.cluster.hosts.iter().map(|host| host.name().to_owned());
        names.map(|name| self.cluster.prefix(&name).to_string()).collect()
    }

    /// The kernels' routes and addresses, which no outage of the store changes.
    fn kernels(&self) -> Vec<String> {
        let of = |host: &sextant_tests::Host| {
            let routes = sextant_tests::cluster::sorted(host.routes_of(66).unwrap());
            format!("{:?} {routes:?}", host.bridge_address().unwrap())
        };
        self.cluster.hosts.iter().map(of).collect()
    }

    fn expect_healthy(&self, within: Duration, what: &str) {
        poll(&format!("the cluster is healthy after {what}"), within, || {
            let status = self.cluster.lab.cli(&["status"])?.succeeded()?.stdout;
            let nodes = self.cluster.lab.cli_json(&["node", "list"])?;
            let ready =
                nodes.as_array().into_iter().flatten().filter(|node| node["state"] == "ready").count();
            let well = status.starts_with("All is well: 2 nodes") && ready == usize::from(HOSTS);
            anyhow::ensure!(well, "{ready} ready; {status}");
            anyhow::Ok(())
        });
    }

    fn run(&mut self, random: &mut StdRng) {
        let outage = match random.random_range(0..4) {
            0 => Outage::Away,
            1 => Outage::Full,
            2 => Outage::Damaged(random.random_range(1..40)),
            _ => Outage::Truncated,
        };
        let span = Duration::from_secs(*[1, 4, 9].choose(random).unwrap());
        println!("  {outage:?} for {span:?}");
        let before = (self.prefixes(), self.kernels());
        let window = match outage {
            Outage::Away => self.away(span),
            Outage::Full => self.full(span),
            Outage::Damaged(_) | Outage::Truncated => self.damaged(outage, span, random),
        };
        self.expect_healthy(window + WELL, &format!("{outage:?}"));
        assert_eq!((self.prefixes(), self.kernels()), before, "I2, I5 after {outage:?}");
        let reservations = self.cluster.sextant(&["reservations"]);
        let lost: Vec<_> = self.reserved.iter().filter(|prefix| !reservations.contains(*prefix)).collect();
        assert!(lost.is_empty(), "acknowledged, and lost by {outage:?}: {lost:?}");
        assert!(self.reserve(), "changes are taken again after {outage:?}");
    }

    /// Lets time pass; changes are asked for meanwhile.
    fn passes(&mut self, span: Duration, kernels: &[String], mut each: impl FnMut(bool)) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            each(self.reserve());
            assert_eq!(self.kernels(), kernels, "I5");
            std::thread::sleep(100 * MILLISECONDS);
        }
    }

    fn away(&mut self, span: Duration) -> Duration {
        let (path, away, kernels) = (self.store(), self.disk.path().join("away"), self.kernels());
        fs::rename(&path, &away).unwrap();
        self.passes(span, &kernels, |taken| assert!(!taken, "acknowledged while the file is away"));
        self.refused("controller", 503);
        fs::rename(&away, &path).unwrap();
        self.refused("controller", 200);
        Duration::ZERO
    }

    fn full(&mut self, span: Duration) -> Duration {
        let kernels = self.kernels();
        self.disk.fill().unwrap();
        // Some fit into the room that the file has.
        self.passes(span, &kernels, |_| {});
        self.disk.empty().unwrap();
        Duration::ZERO
    }

    /// The controller's `/readyz` says so.
    fn refused(&self, what: &str, expected: u16) {
        let controller = self.cluster.controller.as_ref().unwrap();
        poll(&format!("the {what}'s /readyz is {expected}"), 30 * SECONDS, || {
            let (code, body) = controller.http("/readyz")?;
            anyhow::ensure!(code == expected, "{code}: {body}");
            anyhow::Ok(())
        });
    }

    /// The store is refused while it is damaged, and right after the restore of a backup.
    fn damaged(&mut self, outage: Outage, span: Duration, random: &mut StdRng) -> Duration {
        let backup = self.cluster.lab.dir().join("backup").display().to_string();
        self.cluster.sextant(&["backup", &backup, "--force"]);
        let kernels = self.kernels();
        self.cluster.controller.take().unwrap().process.kill().unwrap();
        damage(&self.store(), outage, random);
        let controller = self.cluster.lab.controller(self.options()).unwrap();
        let answer = poll("the controller is ready, or refuses its store", 30 * SECONDS, || {
            if let Some(status) = controller.process.ended()? {
                return anyhow::Ok(Some(status));
            }
            anyhow::ensure!(controller.http("/readyz").is_ok_and(|(code, _)| code == 200), "neither");
            Ok(None)
        });
        let Some(status) = answer else {
            println!("    the damage was to nothing that is in use");
            self.cluster.controller = Some(controller);
            return Duration::ZERO;
        };
        let log = controller.process.log();
        let path = self.store().display().to_string();
        assert!(status.code() == Some(1) && log.contains(&path), "{status}: {log}");
        assert!(!log.contains("panicked"), "{log}");
        std::thread::sleep(span);
        assert_eq!(self.kernels(), kernels, "I5");
        // As the page on damaged stores has it: the file is put aside, and a backup restored into a new one.
        fs::rename(self.store(), self.disk.path().join("damaged")).unwrap();
        self.start_controller();
        self.cluster.sextant(&["restore", &backup]);
        fs::remove_file(self.disk.path().join("damaged")).unwrap();
        RECOVERY
    }
}

fn damage(path: &std::path::Path, outage: Outage, random: &mut StdRng) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    match outage {
        Outage::Damaged(pages) => {
            for _ in 0..pages {
                let mut page = [0; PAGE];
                random.fill(&mut page[..]);
                file.write_all_at(&page, random.random_range(0..length / PAGE as u64) * PAGE as u64).unwrap();
            }
        }
        _ => file.set_len(random.random_range(0..length)).unwrap(),
    }
}

#[test]
fn random_outages_of_the_embedded_store_lose_no_acknowledged_change() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SEXTANT_SEED").unwrap_or_else(rand::random);
    let count = number("SEXTANT_SCHEDULES").unwrap_or(SCHEDULES);
    let mut testbed = Testbed::start();
    for seed in (0..count).map(|index| first.wrapping_add(index)) {
        println!("SEXTANT_SEED={seed} SEXTANT_SCHEDULES=1");
        testbed.run(&mut StdRng::seed_from_u64(seed));
    }
}
