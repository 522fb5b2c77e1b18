//! Settings that name an object on the host, changed between two starts: the new object is set up, the old one is removed.

use std::time::Duration;

use sextant_tests::{
    Agent, AgentOptions, Container, ControllerOptions, Host, MILLISECONDS, SECONDS,
    cluster::{Cluster, GUIDE, UNREACHABLE_METRIC, sorted},
    poll,
};

use crate::host_state::HostState;

/// The expected state of the first host.
#[derive(Clone, Copy)]
struct Expected {
    bridge: &'static str,
    uplink: &'static str,
    metric: u32,
    unreachable: u32,
    table: u32,
    /// The table and metric of the route that marks the host as announced.
    mark: Option<(u32, u32)>,
    refuses_pool: bool,
    /// A route to the peer that is on-link.
    direct: bool,
}

const DEFAULT: Expected = Expected {
    bridge: "docker0",
    uplink: "eth0",
    metric: 512,
    unreachable: UNREACHABLE_METRIC,
    table: 254,
    mark: None,
    refuses_pool: true,
    direct: true,
};
/// The default metric of the mark.
const MARK: u32 = UNREACHABLE_METRIC - 1;

/// The outcome of a start with another value of a key.
enum Outcome {
    /// It takes effect.
    Is(Expected),
    /// It has no effect, and the log reports that.
    Reported(&'static str),
    /// The agent ends with this error.
    Refused(&'static str),
}
use Outcome::{Is, Refused, Reported};

/// Each flag that names an object on the host, changed to a value.
const CHANGES: [(&str, &str, Outcome); 14] = [
    ("--uplink", "eth1", Is(Expected { uplink: "eth1", ..DEFAULT })),
    ("--bridge", "br1", Is(Expected { bridge: "br1", ..DEFAULT })),
    ("--routes-metric", "600", Is(Expected { metric: 600, ..DEFAULT })),
    ("--routes-unreachable-metric", "4000000007", Is(Expected { unreachable: 4_000_000_007, ..DEFAULT })),
    ("--topology", "routed", Is(Expected { refuses_pool: false, ..DEFAULT })),
    ("--export-table", "66", Is(Expected { mark: Some((66, MARK)), ..DEFAULT })),
    ("--routes-table", "100", Is(Expected { table: 100, ..DEFAULT })),
    ("--export-table", "67", Is(Expected { mark: Some((67, MARK)), ..DEFAULT })),
    ("--export-metric", "700", Is(Expected { mark: Some((67, 700)), ..DEFAULT })),
    ("--routes-direct", "never", Is(Expected { direct: false, refuses_pool: false, ..DEFAULT })),
    ("--routes-off-link", "gateway", Is(DEFAULT)),
    ("--host-len", "60", Reported("--host-len 60 has no effect")),
    ("--pool", "nosuch", Reported("--pool nosuch has no effect")),
    ("--role", "router", Refused("still holds")),
];

/// The other flags: they name no object on the host, none that an earlier start leaves behind, or one of Docker's.
const OTHERS: [&str; 35] = [
    "--accept-pools",
    "--bridge-advertise",
    "--bridge-create",
    "--config",
    "--controller",
    "--docker-daemon-json",
    "--docker-from-cluster",
    "--docker-from-outside",
    "--docker-ipam-socket",
    "--docker-ipv4-range",
    "--docker-mode",
    "--docker-network",
    "--docker-replace-used",
    "--docker-restart",
    "--docker-socket",
    "--help",
    "--http",
    "--insecure",
    "--log",
    "--log-format",
    "--ndp-answer",
    "--ndp-mode",
    "--ndp-override",
    "--ndp-source",
    "--node",
    "--routes-resync",
    "--state-dir",
    "--join-ca-file",
    "--join-token-file",
    "--tls-ca",
    "--tls-cert",
    "--tls-key",
    "--uplink-balance",
    "--uplink-next-hop",
    "--version",
];

/// Two hosts with two uplinks each. The first host's agent is started again and again; its one container follows the bridge.
struct Testbed {
    cluster: Cluster,
    before: HostState,
    container: Option<Container>,
    far: Option<Container>,
}

impl Testbed {
    fn start(test: &str) -> Self {
        let mut cluster = Cluster::without_agents(test, 2, GUIDE);
        cluster.controller = None;
        let args = ["--recovery-window", "0"].map(str::to_owned).to_vec();
        cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
        let switch = cluster.lab.switch();
        switch.ip_batch("link add br1 type bridge mcast_snooping 0\nlink set br1 up").unwrap();
        for (n, host) in (1..).zip(&cluster.hosts) {
            let target = std::ops::Deref::deref(host).name();
            switch.ip(&format!("link add q{n} type veth peer name eth1 netns {target}")).unwrap();
            switch.ip(&format!("link set q{n} master br1 up")).unwrap();
            host.ip(&format!("-6 address add 2001:db8:0:1::{n}/64 dev eth1 nodad")).unwrap();
            host.ip("link set eth1 up").unwrap();
        }
        let before = HostState::of(&cluster.hosts[0]);
        let mut testbed = Self { cluster, before, container: None, far: None };
        testbed.start_agent(0, &[]);
        testbed.start_agent(1, &[]);
        testbed.cluster.settle();
        testbed.container = Some(testbed.host().container("c").unwrap());
        testbed.far = Some(testbed.cluster.hosts[1].container("c").unwrap());
        testbed.is(&DEFAULT);
        testbed
    }

    fn host(&self) -> &Host {
        &self.cluster.hosts[0]
    }

    fn agent(&self) -> &Agent {
        &self.cluster.agents[0]
    }

    fn start_agent(&mut self, index: usize, args: &[&str]) {
        let uplink = if index == 0 { "eth0" } else { "eth0,eth1" };
        self.start_agent_over(uplink, index, args);
    }

    fn start_agent_over(&mut self, uplink: &str, index: usize, args: &[&str]) {
        let args = args.iter().chain(&["--routes-resync", "1"]).map(|&arg| arg.to_owned()).collect();
        let options = AgentOptions { args, uplink: uplink.to_owned(), ..AgentOptions::default() };
        let agent = self.cluster.lab.agent(&self.cluster.hosts[index], options).unwrap();
        self.cluster.agents.insert(index, agent);
    }

    /// Ends the first host's agent, and starts it with these arguments.
    fn restart(&mut self, args: &[&str]) {
        self.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        self.start_agent(0, args);
    }

    /// Connects the container to another bridge, and flushes its neighbours.
    fn connect_to(&self, bridge: &str) {
        poll(bridge, 10 * SECONDS, || self.host().ip(&format!("link set ve1 master {bridge}")));
        self.container.as_ref().unwrap().ip("-6 neighbour flush dev eth0").unwrap();
    }

    /// Checks that the host has exactly the expected state, and packets pass.
    fn is(&self, expected: &Expected) {
        let text = self.expected(expected).join("\n");
        poll(&format!("just this:\n{text}"), 20 * SECONDS, || {
            let now = self.now()?.join("\n");
            anyhow::ensure!(now == text, "{now}\nits log:\n{}", self.agent().process.log());
            anyhow::Ok(())
        });
        let (near, far) = (self.container.as_ref().unwrap(), self.far.as_ref().unwrap());
        if expected.direct {
            poll("packets pass", 10 * SECONDS, || near.ping(far.address())?.replied());
        }
    }

    fn expected(&self, it: &Expected) -> Vec<String> {
        let (own, peer) = (self.cluster.prefix("h1"), self.cluster.prefix("h2"));
        let hop = if it.uplink == "eth0" { "2001:db8::2" } else { "2001:db8:0:1::2" };
        let table = |number: u32| if number == 254 { String::new() } else { format!(" table {number}") };
        let refused = |destination: &str, metric: u32, number: u32| {
            format!("unreachable {destination} proto 66 metric {metric}{}", table(number))
        };
        let via =
            format!("{peer} via {hop} dev {} proto 66 metric {}{}", it.uplink, it.metric, table(it.table));
        let mut lines = vec![refused(&own.to_string(), it.unreachable, it.table)];
        lines.extend(it.direct.then_some(via));
        lines.extend(it.refuses_pool.then(|| refused(GUIDE.prefix, it.unreachable, it.table)));
        lines.extend(it.mark.map(|(table, metric)| refused(&own.to_string(), metric, table)));
        lines.push(format!("address {}/80 on {}", own.first_host(), it.bridge));
        lines.push(format!("bridge {}", it.bridge));
        sorted(lines)
    }

    /// Sextant's routes, addresses in pools, bridges.
    fn now(&self) -> anyhow::Result<Vec<String>> {
        let mut lines = self.host().routes_of(66)?;
        let addresses = self.host().ip(&format!("-6 -o address show to {}", GUIDE.prefix))?;
        for line in addresses.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            lines.push(format!("address {} on {}", words[3], words[1]));
        }
        let bridges = self.host().ip("-o link show type bridge")?;
        lines.extend(bridges.lines().map(|line| {
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            format!("bridge {}", name.trim_end_matches(':'))
        }));
        Ok(sorted(lines))
    }

    fn expect_readyz(&self, code: u16, words: &[&str]) {
        poll(&format!("/readyz returns {code} {words:?}"), 10 * SECONDS, || {
            let (is, body) = self.agent().http("/readyz")?;
            anyhow::ensure!(is == code && words.iter().all(|word| body.contains(word)), "{is} {body}");
            anyhow::Ok(())
        });
    }

    fn command(&self, args: &[&str]) -> std::process::Output {
        let program = sextant_tests::bin("sextant-agent").unwrap().display().to_string();
        let state = self.cluster.lab.state_dir(self.host()).display().to_string();
        self.host().run(&[&[program.as_str(), "--state-dir", &state], args].concat()).unwrap()
    }

    fn cleans_up(mut self) {
        self.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        self.container.take().unwrap().ip("link delete eth0").unwrap();
        let done = self.command(&["cleanup"]);
        assert!(done.status.success(), "{done:?}");
        self.before.is_restored(self.host());
    }
}

#[test]
fn a_setting_changed_between_two_starts_leaves_nothing_behind() {
    let mut testbed = Testbed::start("changed settings");
    let on_br1 = Expected { bridge: "br1", ..DEFAULT };

    // The old bridge still has a container: its address moves, and it stays until it is free.
    testbed.restart(&["--bridge", "br1"]);
    testbed.agent().process.wait_for_line("of docker0 removed", 20 * SECONDS).unwrap();
    testbed.host().ip("link show docker0").unwrap();
    testbed.connect_to("br1");
    testbed.is(&on_br1);

    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    testbed.start_agent_over("eth1", 0, &["--bridge", "br1"]);
    testbed.is(&Expected { uplink: "eth1", ..on_br1 });
    let accept_ra = testbed.host().check(&["cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"]).unwrap();
    assert_eq!(accept_ra.trim(), "2", "the agent has the host forward: eth0 would lose its default route");

    testbed.restart(&["--bridge", "br1", "--routes-metric", "600"]);
    testbed.is(&Expected { metric: 600, ..on_br1 });
    testbed.restart(&["--bridge", "br1", "--topology", "routed", "--export-table", "66"]);
    testbed.is(&Expected { refuses_pool: false, mark: Some((66, MARK)), ..on_br1 });
    testbed.restart(&["--bridge", "br1", "--export-table", "67"]);
    testbed.is(&Expected { mark: Some((67, MARK)), ..on_br1 });

    // Without a rule the kernel uses none of the routes.
    testbed.restart(&["--bridge", "br1", "--routes-table", "100"]);
    testbed.expect_readyz(503, &["no rule uses routing table 100", "ip -6 rule add lookup 100 pref 1000"]);
    testbed.host().ip("-6 rule add lookup main suppress_prefixlength 0 pref 999").unwrap();
    testbed.host().ip("-6 rule add lookup 100 pref 1000").unwrap();
    testbed.expect_readyz(200, &[]);
    testbed.is(&Expected { table: 100, ..on_br1 });
    testbed.host().ip("-6 rule del pref 999").unwrap();
    testbed.host().ip("-6 rule del pref 1000").unwrap();

    // Before the agent is started with them, the doctor says what is left.
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let unnamed = testbed.command(&["--uplink", "eth0", "doctor"]);
    let unnamed = String::from_utf8_lossy(&unnamed.stdout).into_owned();
    assert!(unnamed.contains("last set up with bridge br1, but neither [bridge] interface"), "{unnamed}");
    let doctor = testbed.command(&["--uplink", "eth0", "--bridge", "docker0", "doctor"]);
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        printed.contains("a change for earlier settings remains") && printed.contains("of br1 removed"),
        "{printed}"
    );
    testbed.start_agent(0, &[]);
    testbed.agent().process.wait_for_line("of br1 removed", 20 * SECONDS).unwrap();
    testbed.connect_to("docker0");
    testbed.is(&DEFAULT);
    let doctor = testbed.command(&["--uplink", "eth0", "doctor"]);
    assert!(doctor.status.success(), "{doctor:?}");
    testbed.cleans_up();
}

#[test]
fn each_flag_takes_effect_or_is_reported() {
    let mut testbed = Testbed::start("each flag");
    let help = testbed.command(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    // The lines of a flag's description are indented further.
    let of_flags = help.lines().filter(|line| line.len() - line.trim_start().len() <= 6);
    let flags = of_flags.filter_map(|line| {
        let words = line.trim_start().trim_start_matches(|it| it != '-').split_whitespace();
        let flag = words.take(2).find(|word| word.starts_with("--"))?;
        Some(flag.split(['[', '=']).next().unwrap_or_default().to_owned())
    });
    let unknown: Vec<_> = flags
        .filter(|flag| !OTHERS.contains(&flag.as_str()) && CHANGES.iter().all(|(it, ..)| it != flag))
        .collect();
    assert!(unknown.is_empty(), "say what a change of them comes to: {unknown:?}");
    testbed.host().ip("-6 rule add lookup 100 pref 40000").unwrap();

    for (flag, to, outcome) in &CHANGES {
        eprintln!("{flag} {to}");
        testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        match *flag {
            "--uplink" => testbed.start_agent_over(to, 0, &[]),
            "--export-metric" => testbed.start_agent(0, &["--export-table", "67", flag, to]),
            _ => testbed.start_agent(0, &[flag, to]),
        }
        match outcome {
            Is(expected) if expected.bridge != DEFAULT.bridge => {
                testbed.connect_to(expected.bridge);
                testbed.is(expected);
                // Before the next start: the bridge of the others is created again by it.
                testbed.restart(&[]);
                testbed.connect_to(DEFAULT.bridge);
                testbed.is(&DEFAULT);
            }
            Is(expected) => testbed.is(expected),
            Reported(words) => {
                testbed.agent().process.wait_for_line(words, 20 * SECONDS).unwrap();
                testbed.is(&DEFAULT);
            }
            Refused(words) => {
                let ended = testbed.agent().process.wait(10 * SECONDS).unwrap();
                let log = testbed.agent().process.log();
                assert!(!ended.success() && log.contains(words), "{log}");
                testbed.cluster.agents.remove(0);
                testbed.start_agent(0, &[]);
                testbed.is(&DEFAULT);
            }
        }
    }
    testbed.restart(&[]);
    testbed.is(&DEFAULT);
    testbed.host().ip("-6 rule del pref 40000").unwrap();
    testbed.cleans_up();
}

#[test]
fn a_change_interrupted_by_a_kill_is_completed_by_the_next_start() {
    let mut testbed = Testbed::start("killed moves");
    for round in 0..8u32 {
        let bridge = if round % 2 == 0 { "br1" } else { "docker0" };
        testbed.cluster.agents.remove(0).process.kill().unwrap();
        testbed.start_agent(0, &["--bridge", bridge]);
        // From before the ledger is read to after all is done.
        poll("the agent has begun", 10 * SECONDS, || {
            let begun = testbed.agent().process.log_len() > 0;
            if begun { Ok(()) } else { Err("no line") }
        });
        std::thread::sleep(round * 3 * MILLISECONDS);
    }
    testbed.cluster.agents.remove(0).process.kill().unwrap();
    testbed.start_agent(0, &["--bridge", "br1"]);
    testbed.agent().process.wait_for_line("agent started", 10 * SECONDS).unwrap();
    testbed.connect_to("br1");
    testbed.is(&Expected { bridge: "br1", ..DEFAULT });
    testbed.cleans_up();
}

#[test]
fn a_setting_without_effect_is_reported() {
    let mut testbed = Testbed::start("not obeyed");
    testbed.restart(&["--host-len", "60", "--pool", "nosuch"]);
    for words in ["--host-len 60 has no effect", "--pool nosuch has no effect"] {
        testbed.agent().process.wait_for_line(words, 20 * SECONDS).unwrap();
    }
    testbed.is(&DEFAULT);
    let doctor = testbed.command(&["--uplink", "eth0", "--host-len", "60", "doctor"]);
    let printed = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!doctor.status.success() && printed.contains("--host-len 60 has no effect"), "{printed}");

    // Another interface gets the container prefix by other hands: it is not the agent's to take away.
    let other = format!("{}/80", testbed.cluster.prefix("h1").first_host());
    testbed.host().ip(&format!("-6 address add {other} dev eth1 nodad")).unwrap();
    testbed.expect_readyz(503, &["interface eth1 also has the container prefix of bridge docker0"]);
    testbed.host().ip(&format!("-6 address del {other} dev eth1")).unwrap();
    testbed.expect_readyz(200, &[]);

    let before = testbed.now().unwrap();
    for (args, words) in [
        (&["--bridge", "eth1", "--uplink", "eth1"][..], "is also an uplink"),
        (&["--role", "router"], "still holds"),
    ] {
        testbed.restart(args);
        let ended = testbed.agent().process.wait(10 * SECONDS).unwrap();
        let log = testbed.agent().process.log();
        assert!(!ended.success() && log.contains(words), "{log}");
        testbed.cluster.agents.remove(0);
        testbed.start_agent(0, &[]);
        testbed.expect_readyz(200, &[]);
        assert_eq!(testbed.now().unwrap(), before);
    }
}

/// The procedure in the error message.
#[test]
fn a_host_becomes_a_router_once_it_holds_nothing() {
    let mut testbed = Testbed::start("host to router");
    let peer = testbed.cluster.prefix("h2");
    testbed.container.take().unwrap().ip("link delete eth0").unwrap();
    testbed.cluster.sextant(&["node", "drain", "h1", "--timeout", "20s"]);
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let forget = Duration::from_secs(30);
    poll("h1 is forgotten", forget, || {
        testbed.cluster.lab.cli(&["node", "forget", "h1", "--force"])?.succeeded()
    });
    assert!(testbed.command(&["cleanup"]).status.success());
    testbed.before.is_restored(testbed.host());
    let state = testbed.cluster.lab.dir().join("router").display().to_string();
    testbed.start_agent(0, &["--role", "router", "--state-dir", &state]);
    let expected = sorted(vec![
        format!("{peer} via 2001:db8::2 dev eth0 proto 66 metric 512"),
        format!("unreachable {} proto 66 metric {UNREACHABLE_METRIC}", GUIDE.prefix),
    ]);
    poll("the routes of a router, no address and no bridge", 20 * SECONDS, || {
        let now = testbed.now()?;
        anyhow::ensure!(now == expected, "{now:#?}");
        anyhow::Ok(())
    });
}
