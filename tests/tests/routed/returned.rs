//! A router is back after an outage and announces less: its other routes stay for two minutes after its End-of-RIB, or until
//! it withdraws them.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use sextant_tests::{Frr, RouteMonitor, SECONDS, poll};

use crate::{
    bgp::Speakers,
    import::{expect, frr},
};

const KEPT: &str = "2001:db8:f000::/40";
const UNNAMED: &str = "2001:db8:f100::/40";
const NAMED_LATER: &str = "2001:db8:f200::/40";
const NEW: &str = "2001:db8:f300::/40";
/// The time that the router has after its End-of-RIB, as in docs/bgp.md.
const TWO_MINUTES: Duration = Duration::from_secs(120);

/// A router that was killed, is back, and has sent End-of-RIB.
struct Returned {
    it: Speakers,
    frr: Frr,
    monitor: RouteMonitor,
    /// Before its End-of-RIB.
    started: SystemTime,
    /// After its End-of-RIB.
    ended: SystemTime,
}

impl Returned {
    fn start(test: &str) -> Self {
        let mut it = Speakers::new(test);
        let mut frr = frr(&it, &format!("  network {KEPT}\n"));
        it.start(0, "import = \"all\"");
        it.site.becomes("h1", "ready");
        // A restart loses these.
        announce(&frr, &[UNNAMED, NAMED_LATER].map(|prefix| format!("network {prefix}")));
        has(&it, &[KEPT, UNNAMED, NAMED_LATER]);
        let monitor = RouteMonitor::start(it.host(0)).unwrap();
        frr.kill_bgpd().unwrap();
        it.says(0, "closed the connection");
        let started = SystemTime::now();
        frr.start_bgpd().unwrap();
        poll("FRR has sent End-of-RIB", 30 * SECONDS, || {
            let output = frr.ask("show bgp neighbors 2001:db8::1")?;
            ensure!(output.contains("End-of-RIB send: IPv6 Unicast"), "{output}");
            anyhow::Ok(())
        });
        let returned = Self { it, frr, monitor, started, ended: SystemTime::now() };
        // The agent reads this after End-of-RIB.
        announce(&returned.frr, &[format!("network {NEW}")]);
        returned.has(&[KEPT, UNNAMED, NAMED_LATER, NEW]);
        returned.names(2);
        returned
    }

    /// Waits until the kernel of h1 has just these routes of the router.
    fn has(&self, prefixes: &[&str]) {
        has(&self.it, prefixes);
    }

    /// Waits until the router announces this number of prefixes, as the agent counts them.
    fn names(&self, count: usize) {
        let expected =
            format!("sextant_agent_bgp_prefixes_imported{{neighbour=\"2001:db8::fe:1\"}} {count}\n");
        poll(&expected, 20 * SECONDS, || {
            let (_, counted) = self.it.site.cluster.agents[0].http("/metrics")?;
            ensure!(counted.contains(&expected), "{counted}");
            anyhow::Ok(())
        });
    }

    /// The routes that the kernel of h1 has lost.
    fn gone(&self) -> Vec<String> {
        let gone = self.monitor.events().unwrap().into_iter().filter(|event| event.gone);
        gone.map(|event| event.route.destination.to_string()).collect()
    }
}

/// Changes the running config of the router.
fn announce(frr: &Frr, lines: &[String]) {
    let mode = ["configure", "router bgp 65000", "address-family ipv6 unicast"];
    let commands = mode.into_iter().chain(lines.iter().map(String::as_str));
    frr.ask_all(&commands.flat_map(|command| ["-c", command]).collect::<Vec<_>>()).unwrap();
}

fn has(it: &Speakers, prefixes: &[&str]) {
    let lines: Vec<_> =
        prefixes.iter().map(|prefix| format!("{prefix} via 2001:db8::fe:1 dev eth0")).collect();
    expect(it.host(0), &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn i5_a_returned_routers_routes_stay_at_its_end_of_rib_until_it_withdraws_them() {
    let it = Returned::start("returned: at End-of-RIB");
    assert_eq!(it.gone(), [""; 0], "no route was lost in the outage or at End-of-RIB");
    announce(&it.frr, &[format!("network {NAMED_LATER}")]);
    it.names(3);
    announce(&it.frr, &[format!("no network {NAMED_LATER}")]);
    it.has(&[KEPT, UNNAMED, NEW]);
    assert_eq!(it.gone(), [NAMED_LATER]);
}

#[test]
#[ignore = "slow: waits for two minutes"]
fn i5_a_returned_routers_unannounced_routes_go_two_minutes_after_its_end_of_rib() {
    let it = Returned::start("returned: two minutes");
    announce(&it.frr, &[format!("network {NAMED_LATER}")]);
    it.names(3);
    let gone = it.monitor.removed(UNNAMED.parse().unwrap(), TWO_MINUTES + 20 * SECONDS).unwrap();
    let (longest, shortest) = (gone.after(it.started), gone.after(it.ended));
    assert!(longest >= TWO_MINUTES, "gone {longest:?} after the router's start, before the two minutes");
    assert!(
        shortest < TWO_MINUTES + 10 * SECONDS,
        "gone only {shortest:?} after the router was seen to have sent it"
    );
    it.has(&[KEPT, NAMED_LATER, NEW]);
    assert_eq!(it.gone(), [UNNAMED]);
}
