//! The speaker in the agent, against real routers.

use std::{path::PathBuf, time::Instant};

use sextant_proto::Prefix;
use sextant_tests::{
    Frr, Host, MILLISECONDS, RouteMonitor, SECONDS, cluster::sorted, expect_text, ping_matrix, poll,
};

use crate::site::Site;

/// What `ip` shows for routes that FRR, BIRD and GoBGP's zebra made.
const PROTOCOLS: [u8; 3] = [186, 12, 11];

/// h1 and h2 of the first segment and h3 of the second, each with a speaker, and the router without an agent.
pub struct Speakers {
    pub site: Site,
}

/// The config file of host `index`, whose AS is 65001 and up, towards `router`, with more lines for `[bgp]` and for that
/// neighbour.
pub fn config(site: &Site, index: usize, bgp: &str, more: &str) -> PathBuf {
    let host = &site.cluster.hosts[index];
    let router = if index == 2 { "2001:db8:0:b::fe:1" } else { "2001:db8::fe:1" };
    let path = site.cluster.lab.dir().join(format!("{}.toml", host.name()));
    let hold_time = if more.contains("hold-time") { "" } else { "hold-time = 3" };
    let text = format!(
        "[bgp]
         local-as = {}
         restart-time = 20
         {bgp}
         [[bgp.neighbour]]
         address = \"{router}\"
         remote-as = 65000
         {hold_time}
         {more}",
        65001 + index
    );
    std::fs::write(&path, text).unwrap();
    path
}

impl Speakers {
    pub fn new(test: &str) -> Self {
        Self { site: Site::new(test) }
    }

    /// Starts the agent of host `index`, with more lines for its neighbour.
    pub fn start(&mut self, index: usize, more: &str) {
        self.start_with(index, "", more);
    }

    /// As [`Speakers::start`], with more lines for `[bgp]`.
    pub fn start_with(&mut self, index: usize, bgp: &str, more: &str) {
        let path = config(&self.site, index, bgp, more).display().to_string();
        self.site.start_host(index, &["--config", &path]);
    }

    pub fn start_all(&mut self) {
        (0..3).for_each(|index| self.start(index, ""));
        self.site.cluster.settle();
    }

    pub fn host(&self, index: usize) -> &Host {
        &self.site.cluster.hosts[index]
    }

    pub fn prefix(&self, index: usize) -> Prefix {
        self.site.cluster.prefix(self.host(index).name())
    }

    /// Waits until the router's kernel has just these hosts' prefixes of its routing daemon, each through its host.
    pub fn expect_in_router(&self, hosts: &[usize]) {
        let prefixes: Vec<_> = hosts.iter().map(|&index| (index, self.prefix(index))).collect();
        self.expect_prefixes_in_router(&prefixes);
    }

    /// As [`Speakers::expect_in_router`], of these prefixes, each with its host's index.
    pub fn expect_prefixes_in_router(&self, prefixes: &[(usize, Prefix)]) {
        let line = |&(index, prefix): &(usize, Prefix)| {
            let dev = if index == 2 { "eth1" } else { "eth0" };
            format!("{prefix} via {} dev {dev}", self.host(index).address())
        };
        let expected = sorted(prefixes.iter().map(line).collect()).join("\n");
        expect_text("the router's routes", 30 * SECONDS, &expected, || {
            let routes = PROTOCOLS.map(|protocol| self.site.router.routes_of(protocol));
            let routes = routes.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            let short = |line: String| line.split(" proto ").next().unwrap_or_default().to_owned();
            anyhow::Ok(sorted(routes.into_iter().map(short).collect()).join("\n"))
        });
    }

    /// With h1 and h3 in the router: h2 is there within a second, containers reach each other through the router, and a
    /// drain of h2 costs them nothing.
    fn h2_joins_and_drains(&mut self, router: &str, more: &str) {
        let monitor = RouteMonitor::start(&self.site.router).unwrap();
        self.start(1, more);
        let announced = self.site.cluster.agents[2].announced_at(10 * SECONDS).unwrap();
        let added = monitor.added(self.prefix(1), 20 * SECONDS).unwrap();
        let took = added.after(announced);
        eprintln!("{router} had the new host's route {took:?} after the announcement");
        assert!(took < SECONDS, "{router} had the route to h2 only {took:?} after its announcement");
        self.expect_in_router(&[0, 1, 2]);
        self.site.cluster.settle();

        let containers = [0, 1, 2].map(|index| self.host(index).container(&format!("c{index}")).unwrap());
        poll("all reach all", 10 * SECONDS, || {
            let failures = ping_matrix(&containers)?;
            anyhow::ensure!(failures.is_empty(), "{failures}");
            anyhow::Ok(())
        });
        let stream = containers[0].udp_stream(&containers[2], 5 * MILLISECONDS).unwrap();
        self.site.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
        self.expect_in_router(&[0, 2]);
        stream.flows(20, 10 * SECONDS).unwrap();
        stream.finish().unwrap().nothing_lost().unwrap();
        // It was withdrawn first; then the session has ended, and that is no trouble.
        self.says(1, "drained");
        let status = self.site.cluster.sextant(&["status"]);
        assert!(!status.contains("no BGP session"), "{status}");
    }

    /// The last agent, which is h3's, is killed and started again, then stopped as for an upgrade and started again: the
    /// router takes no route away, and no packet is lost.
    pub fn h3s_agent_restarts(&mut self, more: &str, all: &[usize]) {
        let (a, b) = (self.host(0).container("d").unwrap(), self.host(2).container("e").unwrap());
        poll("a way through the router", 10 * SECONDS, || a.ping(b.address())?.replied());
        let monitor = RouteMonitor::start(&self.site.router).unwrap();
        let stream = a.udp_stream(&b, 5 * MILLISECONDS).unwrap();
        self.site.cluster.agents.pop().unwrap().process.kill().unwrap();
        stream.flows(200, 10 * SECONDS).unwrap();
        self.start_h3_again(more);
        let agent = self.site.cluster.agents.pop().unwrap();
        assert!(agent.process.terminate(5 * SECONDS).unwrap().success());
        stream.flows(200, 10 * SECONDS).unwrap();
        self.start_h3_again(more);
        stream.flows(200, 10 * SECONDS).unwrap();
        stream.finish().unwrap().nothing_lost().unwrap();
        let gone: Vec<_> = monitor.events().unwrap().into_iter().filter(|event| event.gone).collect();
        assert!(gone.is_empty(), "the router took a route away: {gone:?}");
        self.expect_in_router(all);
    }

    fn start_h3_again(&mut self, more: &str) {
        self.start(2, more);
        let agent = self.site.cluster.agents.last().unwrap();
        agent.process.wait_for_line("BGP session", 20 * SECONDS).unwrap();
        self.says(2, "established");
    }

    /// Waits until `sextant bgp` says this of host `index`'s neighbour.
    pub fn says(&self, index: usize, what: &str) {
        let node = self.host(index).name();
        poll(&format!("sextant bgp says \"{what}\""), 30 * SECONDS, || {
            let said = self.site.cluster.sextant(&["bgp", "--node", node]);
            if said.contains(what) { Ok(()) } else { Err(said) }
        });
    }
}

/// FRR on the router, which takes what hosts in AS 65001 to 65003 announce.
pub fn frr(site: &Site, more: &str) -> Frr {
    let neighbours: String = [("2001:db8::1", 65001), ("2001:db8::2", 65002), ("2001:db8:0:b::3", 65003)]
        .map(|(address, remote)| {
            format!(" neighbor {address} remote-as {remote}\n neighbor {address} timers connect 1\n")
        })
        .concat();
    let active = ["2001:db8::1", "2001:db8::2", "2001:db8:0:b::3"]
        .map(|address| format!("  neighbor {address} activate\n"))
        .concat();
    site.router
        .frr_with(&format!(
            "debug bgp updates in\n!\nrouter bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n\
             {neighbours}{more} address-family ipv6 unicast\n{active} exit-address-family\nexit\n"
        ))
        .unwrap()
}

#[test]
fn frr_holds_just_the_hosts_prefixes_from_join_to_drain_and_death() {
    let mut it = Speakers::new("bgp: frr");
    // The time of the join is not to depend on whose connection comes first.
    let router = frr(&it.site, " neighbor 2001:db8::2 passive\n");
    it.start(0, "communities = [\"65001:7\"]\nlarge-communities = [\"65001:1:2\"]\nmed = 5");
    it.start(2, "");
    it.site.becomes("h1", "ready");
    it.expect_in_router(&[0, 2]);
    it.says(0, "established");
    let output = router.ask(&format!("show bgp ipv6 unicast {}", it.prefix(0))).unwrap();
    for expected in [
        "65001\n",
        "metric 5",
        "Community: 65001:7",
        "Large Community: 65001:1:2",
        "2001:db8::1 from 2001:db8::1",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }

    it.h2_joins_and_drains("FRR", "");
    router.bgpd.wait_for_line("graceful-shutdown", 5 * SECONDS).unwrap();
    let output = router.ask("show bgp neighbors 2001:db8::2").unwrap();
    assert!(output.contains("Notification received (Cease/Administrative Shutdown)"), "{output}");

    it.host(2).isolate().unwrap();
    let cut = Instant::now();
    it.expect_in_router(&[0]);
    eprintln!("a dead host is gone from FRR after {:?}", cut.elapsed());
}

#[test]
fn i5_an_agent_killed_and_started_again_costs_no_packet() {
    let mut it = Speakers::new("bgp: restart");
    let _router = frr(&it.site, "");
    it.start_all();
    it.expect_in_router(&[0, 1, 2]);
    it.says(2, "established");
    it.h3s_agent_restarts("", &[0, 1, 2]);
}

#[test]
fn errors_name_the_neighbour_and_what_is_wrong() {
    let mut it = Speakers::new("bgp: errors");
    let _router =
        frr(&it.site, " neighbor 2001:db8::1 password right\n neighbor 2001:db8::2 password right\n");
    let dir = it.site.cluster.lab.dir().to_path_buf();
    let key = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        format!("password-file = \"{}\"", path.display())
    };
    let (right, wrong) = (key("right", "right\n"), key("wrong", "wrong\n"));
    it.start(0, &right);
    it.start(1, &wrong);
    it.site.becomes("h1", "ready");
    it.site.becomes("h2", "ready");
    it.says(0, "established");
    it.says(1, "has it the same password as password-file");
    let status = it.site.cluster.sextant(&["status"]);
    assert!(
        status.contains("node h2: no BGP session with 2001:db8::fe:1 (AS 65000), connecting"),
        "{status}"
    );
    let log = it.site.cluster.agents[1].process.log();
    assert!(log.contains("\"neighbour\":\"2001:db8::fe:1\"") && !log.contains("wrong\\n"), "{log}");

    // A corrected file is read; one that is gone keeps what it said.
    key("wrong", "right\n");
    it.says(1, "established");
    std::fs::remove_file(dir.join("right")).unwrap();
    poll("the missing file is reported", 20 * SECONDS, || {
        let status = it.site.cluster.sextant(&["status"]);
        anyhow::ensure!(status.contains("the session with 2001:db8::fe:1 keeps the password"), "{status}");
        anyhow::Ok(())
    });
    it.says(0, "established");
    key("right", "right\n");
    poll("the file is back", 20 * SECONDS, || {
        let status = it.site.cluster.sextant(&["status"]);
        anyhow::ensure!(!status.contains("keeps the password"), "{status}");
        anyhow::Ok(())
    });

    let path = config(&it.site, 2, "", "").display().to_string();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("remote-as = 65000", "remote-as = 65009")).unwrap();
    it.site.start_host(2, &["--config", &path]);
    it.site.becomes("h3", "ready");
    it.says(2, "it is AS 65000, not 65009; correct remote-as in agent.toml");
}

/// The config of a BIRD on the router, which takes what hosts in AS 65001 to 65003 announce from the same link.
pub fn bird_config(more: &str) -> String {
    let sessions = [
        ("2001:db8::fe:1", "2001:db8::1", 65001),
        ("2001:db8::fe:1", "2001:db8::2", 65002),
        ("2001:db8:0:b::fe:1", "2001:db8:0:b::3", 65003),
    ]
    .map(|(own, address, remote)| {
        format!(
            "protocol bgp {{ local {own} as 65000; neighbor {address} as {remote}; connect delay time 1;
             connect retry time 1; error wait time 1, 2; ttl security yes; {more}
             ipv6 {{ import all; export none; }}; }}\n"
        )
    })
    .concat();
    format!(
        "router id 192.0.2.200; protocol device {{ }}
         protocol kernel {{ scan time 1; persist; graceful restart on; ipv6 {{ import none; export all; }}; }}\n{sessions}"
    )
}

#[test]
fn bird_holds_just_the_hosts_prefixes() {
    let mut it = Speakers::new("bgp: bird");
    let bird = it.site.router.bird_with(&bird_config("passive on;")).unwrap();
    [0, 2].into_iter().for_each(|index| it.start(index, "ttl-security = true"));
    ["h1", "h3"].iter().for_each(|name| it.site.becomes(name, "ready"));
    it.expect_in_router(&[0, 2]);
    it.h2_joins_and_drains("BIRD", "ttl-security = true");
    let output = bird.ask("show protocols all").unwrap();
    assert!(output.contains("Received: Administrative shutdown"), "{output}");
    assert!(output.lines().any(|line| line.trim() == "Message:        node h2 is drained"), "{output}");
    it.site.cluster.sextant(&["node", "undrain", "h2", "--timeout", "20s"]);
    it.expect_in_router(&[0, 1, 2]);
    let output = bird.ask("show route all").unwrap();
    assert!(
        output.contains("BGP.as_path: 65003") && output.contains("BGP.next_hop: 2001:db8:0:b::3"),
        "{output}"
    );
    [1, 2].into_iter().for_each(|index| it.says(index, "established"));
}

#[test]
fn gobgp_learns_just_the_hosts_prefixes() {
    let mut it = Speakers::new("bgp: gobgp");
    let sessions: String = [("2001:db8::1", 65001), ("2001:db8::2", 65002), ("2001:db8:0:b::3", 65003)]
        .map(|(address, remote)| {
            format!(
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {remote}\n\
                 [neighbors.timers.config]\nconnect-retry = 5\n\
                 [neighbors.transport.config]\npassive-mode = true\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n[[neighbors.afi-safis]]\n\
                 [neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n"
            )
        })
        .concat();
    let config = it.site.cluster.lab.dir().join("gobgpd.toml");
    let global = "[global.config]\nas = 65000\nrouter-id = \"192.0.2.200\"\nlocal-address-list = [\"::\"]\n";
    // Debian's GoBGP does not understand Debian's zebra: a BIRD beside it brings its routes into the kernel.
    it.site.router.ip("address add 2001:db8::fe:9/128 dev lo").unwrap();
    let inside = "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"2001:db8::fe:9\"\npeer-as = 65000\n\
                  [neighbors.transport.config]\npassive-mode = true\n[[neighbors.afi-safis]]\n\
                  [neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n";
    std::fs::write(&config, format!("{global}{sessions}{inside}")).unwrap();
    let _fib = it
        .site
        .router
        .bird_with(
            "router id 192.0.2.209; protocol device { } protocol direct { ipv6; }
             protocol kernel { scan time 1; ipv6 { import none; export where source = RTS_BGP; }; }
             protocol bgp gobgp { local 2001:db8::fe:9 port 1179 as 65000; neighbor 2001:db8::fe:1 as 65000; multihop;
               connect delay time 1; connect retry time 1; error wait time 1, 2; ipv6 { import all; export none; }; }",
        )
        .unwrap();
    let _gobgpd = it.site.router.spawn("gobgpd", &["gobgpd", "-f", &config.display().to_string()]).unwrap();
    [0, 2].into_iter().for_each(|index| it.start(index, ""));
    ["h1", "h3"].iter().for_each(|name| it.site.becomes(name, "ready"));
    let learnt = |it: &Speakers, hosts: &[usize]| {
        let line =
            |&index: &usize| format!("{} {} [{}]", it.prefix(index), it.host(index).address(), 65001 + index);
        let expected = sorted(hosts.iter().map(line).collect()).join("\n");
        expect_text("what GoBGP has", 40 * SECONDS, &expected, || {
            let text = it.site.router.check(&["gobgp", "global", "rib", "-a", "ipv6"])?;
            let words = |line: &str| {
                let words: Vec<_> =
                    line.split_whitespace().skip_while(|word| word.starts_with('*')).collect();
                words.first().filter(|first| first.contains('/')).map(|prefix| {
                    format!("{prefix} {} [{}]", words[1], words.get(2).copied().unwrap_or_default())
                })
            };
            anyhow::Ok(sorted(text.lines().filter_map(words).collect()).join("\n"))
        });
    };
    learnt(&it, &[0, 2]);
    it.says(2, "established");
    it.h3s_agent_restarts("", &[0, 2]);
    it.h2_joins_and_drains("GoBGP", "");
    learnt(&it, &[0, 2]);
}

#[test]
fn one_host_may_announce_all_each_with_its_own_next_hop() {
    let mut it = Speakers::new("bgp: all");
    let router = frr(&it.site, "");
    let path = config(&it.site, 0, "", "");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[bgp]\n", "[bgp]\nannounce = \"all\"\n")).unwrap();
    it.site.start_host(0, &["--config", &path.display().to_string()]);
    [1, 2].into_iter().for_each(|index| it.site.start_host(index, &[]));
    it.site.cluster.settle();
    it.expect_in_router(&[0, 1, 2]);
    let output = router.ask(&format!("show bgp ipv6 unicast {}", it.prefix(1))).unwrap();
    assert!(output.contains("2001:db8::2 from 2001:db8::1"), "h2's prefix by h1's word: {output}");
    it.site.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    it.expect_in_router(&[0, 2]);
}
