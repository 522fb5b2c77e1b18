//! Hosts with prefixes of two pools: each is announced by itself, with the communities of its pool.

use anyhow::{Context, ensure};
use sextant_proto::Prefix;
use sextant_tests::{RouteMonitor, SECONDS, poll};

use crate::bgp::{Speakers, bird_config, config, frr};

/// The section of pool ula, whose prefixes have communities of their own.
const ULA: &str = "communities = [\"65001:8\"]\nlarge-communities = [\"65001:1:8\"]";

/// h1 and h3 with prefixes of both pools.
struct Several {
    it: Speakers,
    /// More lines for the neighbour.
    more: &'static str,
}

/// A claim: the host's index, and the pool.
type Of = (usize, &'static str);

const MAIN_OF_H1: Of = (0, "main");
const ULA_OF_H1: Of = (0, "ula");
const BOTH_OF_H3: [Of; 2] = [(2, "main"), (2, "ula")];
const ALL: [Of; 4] = [MAIN_OF_H1, ULA_OF_H1, (2, "main"), (2, "ula")];

impl Several {
    fn new(it: Speakers, more: &'static str) -> Self {
        let lengths = ["--host-len", "64", "--container-len", "80"];
        it.site.cluster.sextant(&[&["pool", "add", "ula", "fd00:5e::/40"][..], &lengths].concat());
        let mut several = Self { it, more };
        [0, 2].into_iter().for_each(|index| several.start(index, ULA));
        several.in_router(&ALL);
        several
    }

    /// Starts an agent, with these lines in the section of pool ula.
    fn start(&mut self, index: usize, ula: &str) {
        let bgp = format!("[bgp.pool.ula]\n{ula}");
        let neighbour = format!("communities = [\"65001:7\"]\n{}", self.more);
        let path = config(&self.it.site, index, &bgp, &neighbour).display().to_string();
        self.it.site.start_host(index, &["--config", &path, "--pool", "main,ula"]);
    }

    /// Starts the agent of h3 again, and waits for its session.
    fn start_h3_again(&mut self, ula: &str) {
        self.start(2, ula);
        let agent = self.it.site.cluster.agents.last().unwrap();
        agent.process.wait_for_line("BGP session", 20 * SECONDS).unwrap();
        self.it.says(2, "established");
    }

    fn kill_h3s_agent(&mut self) {
        self.it.site.cluster.agents.pop().unwrap().process.kill().unwrap();
    }

    fn sextant(&self, args: &[&str]) {
        self.it.site.cluster.sextant(args);
    }

    fn try_prefix(&self, (index, pool): Of) -> anyhow::Result<Prefix> {
        let node = self.it.site.cluster.node(self.it.host(index).name());
        let claim = node["claims"].as_array().into_iter().flatten().find(|claim| claim["pool"] == pool);
        let claim = claim.with_context(|| format!("no claim in {pool}: {node}"))?;
        ensure!(claim["claim_state"] == "ready", "not ready: {claim}");
        Ok(claim["host_prefix"].as_str().context("no prefix")?.parse()?)
    }

    fn prefix(&self, of: Of) -> Prefix {
        poll(&format!("a prefix of {of:?}"), 40 * SECONDS, || self.try_prefix(of))
    }

    /// Waits until the router has just the prefixes of these claims.
    fn in_router(&self, claims: &[Of]) {
        let prefixes: Vec<_> = claims.iter().map(|&of| (of.0, self.prefix(of))).collect();
        self.it.expect_prefixes_in_router(&prefixes);
    }

    /// Waits until h3 has no claim in pool ula.
    fn h3_has_no_ula(&self) {
        poll("no claim of h3 in ula", 20 * SECONDS, || match self.try_prefix((2, "ula")) {
            Err(error) if error.to_string().starts_with("no claim") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// The end of one claim withdraws its prefix alone; it comes back with a new claim. A drain withdraws both prefixes.
    fn one_claim_ends_and_then_all_are_drained(&self) {
        let monitor = RouteMonitor::start(&self.it.site.router).unwrap();
        let lost = self.prefix(ULA_OF_H1);
        let stay = [MAIN_OF_H1, BOTH_OF_H3[0], BOTH_OF_H3[1]];
        self.sextant(&["pool", "drain", "ula"]);
        self.sextant(&["node", "forget", "h1", "--pool", "ula", "--force"]);
        let prefixes = stay.map(|of| (of.0, self.prefix(of)));
        self.it.expect_prefixes_in_router(&prefixes);
        monitor.removed(lost, SECONDS).unwrap();
        self.sextant(&["pool", "undrain", "ula"]);
        self.in_router(&ALL);
        let events = monitor.events().unwrap();
        let stays = |prefix: Prefix| prefixes.iter().any(|(_, stays)| *stays == prefix);
        let touched: Vec<_> = events.iter().filter(|event| stays(event.route.destination)).collect();
        assert!(touched.is_empty(), "the router changed routes that were to stay: {touched:?}");

        self.sextant(&["node", "drain", "h1", "--timeout", "20s"]);
        self.in_router(&BOTH_OF_H3);
        self.sextant(&["node", "undrain", "h1", "--timeout", "20s"]);
        self.in_router(&ALL);
    }

    /// A restart of an agent withdraws nothing, but what has ended meanwhile or is no longer to be announced.
    fn h3s_agent_restarts(&mut self) {
        let monitor = RouteMonitor::start(&self.it.site.router).unwrap();
        self.kill_h3s_agent();
        self.start_h3_again(ULA);
        let agent = self.it.site.cluster.agents.pop().unwrap();
        assert!(agent.process.terminate(5 * SECONDS).unwrap().success());
        self.start_h3_again(ULA);
        self.in_router(&ALL);
        assert_eq!(gone(&monitor), [], "by a restart");

        let ula = self.prefix(BOTH_OF_H3[1]);
        self.kill_h3s_agent();
        self.start_h3_again("announce = false");
        self.in_router(&[MAIN_OF_H1, ULA_OF_H1, BOTH_OF_H3[0]]);
        assert_eq!(gone(&monitor), [ula], "by announce = false");
        self.kill_h3s_agent();
        self.start_h3_again(ULA);
        self.in_router(&ALL);

        self.kill_h3s_agent();
        self.sextant(&["pool", "drain", "ula"]);
        self.sextant(&["node", "forget", "h3", "--pool", "ula", "--force"]);
        self.start_h3_again(ULA);
        self.h3_has_no_ula();
        self.in_router(&[MAIN_OF_H1, ULA_OF_H1, BOTH_OF_H3[0]]);
        assert_eq!(gone(&monitor), [ula, ula], "by the end of a claim while the agent was down");
    }
}

/// The prefixes whose routes the router has removed.
fn gone(monitor: &RouteMonitor) -> Vec<Prefix> {
    let events = monitor.events().unwrap();
    events.into_iter().filter(|event| event.gone).map(|event| event.route.destination).collect()
}

/// Waits until the router's daemon says this of a prefix, and not that.
fn says(ask: impl Fn() -> anyhow::Result<String>, this: &[&str], that: &str) {
    poll("communities", 10 * SECONDS, || {
        let said = ask()?;
        ensure!(this.iter().all(|it| said.contains(it)) && !said.contains(that), "{said}");
        anyhow::Ok(())
    });
}

#[test]
fn frr_has_each_prefix_of_a_host_for_itself() {
    let it = Speakers::new("bgp: pools in FRR");
    let router = frr(&it.site, "");
    let mut several = Several::new(it, "");
    let of = |of| {
        let prefix = several.prefix(of);
        let router = &router;
        move || router.ask(&format!("show bgp ipv6 unicast {prefix}"))
    };
    says(of(MAIN_OF_H1), &["Community: 65001:7"], "65001:8");
    says(of(ULA_OF_H1), &["Community: 65001:8", "Large Community: 65001:1:8"], "65001:7");
    several.one_claim_ends_and_then_all_are_drained();
    several.h3s_agent_restarts();
}

#[test]
fn bird_has_each_prefix_of_a_host_for_itself() {
    let it = Speakers::new("bgp: pools in BIRD");
    let bird = it.site.router.bird_with(&bird_config("graceful restart on;")).unwrap();
    let mut several = Several::new(it, "ttl-security = true");
    let of = |of| {
        let prefix = several.prefix(of);
        let bird = &bird;
        move || bird.ask(&format!("show route {prefix} all"))
    };
    says(of(MAIN_OF_H1), &["BGP.community: (65001,7)"], "(65001,8)");
    says(of(ULA_OF_H1), &["BGP.community: (65001,8)", "BGP.large_community: (65001, 1, 8)"], "(65001,7)");
    several.one_claim_ends_and_then_all_are_drained();
    several.h3s_agent_restarts();
}
