//! Settings that name something on the host, changed between two starts: the new is set up, the old is gone.

use std::time::Duration;

use sextant_tests::{
    Agent, AgentOptions, Container, ControllerOptions, Host, MILLISECONDS, SECONDS,
    cluster::{Cluster, GUIDE, UNREACHABLE_METRIC, sorted},
    poll,
};

use crate::before::Before;

/// What the first host should be like.
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
/// That of the mark unless it is set.
const MARK: u32 = UNREACHABLE_METRIC - 1;

/// What a start with another value of a key comes to.
enum Outcome {
    /// It is obeyed.
    Is(Expected),
    /// It is not, and the log says so.
    Reported(&'static str),
    /// The agent ends, and says why.
    Refused(&'static str),
}
use Outcome::{Is, Refused, Reported};

/// Each flag that names a thing on the host, changed to a value.
const CHANGES: [(&str, &str, Outcome); 13] = [
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
    ("--host-len", "60", Reported("--host-len 60 has no effect")),
    ("--pool", "nosuch", Reported("--pool nosuch has no effect")),
    ("--role", "router", Refused("still holds")),
];

/// The other flags: they name nothing on the host, or nothing that an earlier start would have left.
const OTHERS: [&str; 14] = [
    "--bridge-create",
    "--config",
    "--controller",
    "--help",
    "--http",
    "--insecure",
    "--log",
    "--log-format",
    "--node",
    "--routes-resync",
    "--state-dir",
    "--uplink-balance",
    "--uplink-next-hop",
    "--version",
];

/// Two hosts with two uplinks each. The first host's agent is started again and again; its one container follows the bridge.
struct Bed {
    cluster: Cluster,
    before: Before,
    container: Option<Container>,
    far: Option<Container>,
}

impl Bed {
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
        let before = Before::of(&cluster.hosts[0]);
        let mut bed = Self { cluster, before, container: None, far: None };
        bed.start_agent(0, &[]);
        bed.start_agent(1, &[]);
        bed.cluster.settle();
        bed.container = Some(bed.host().container("c").unwrap());
        bed.far = Some(bed.cluster.hosts[1].container("c").unwrap());
        bed.is(&DEFAULT);
        bed
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

    /// The container is connected to another bridge, and knows nothing of the one before.
    fn connect_to(&self, bridge: &str) {
        poll(bridge, 10 * SECONDS, || self.host().ip(&format!("link set ve1 master {bridge}")));
        self.container.as_ref().unwrap().ip("-6 neighbour flush dev eth0").unwrap();
    }

    /// Nothing but what is expected is there, and packets pass.
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

    /// Routes of ours, addresses in pools, bridges.
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

    fn readyz_says(&self, code: u16, words: &[&str]) {
        poll(&format!("/readyz says {code} {words:?}"), 10 * SECONDS, || {
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

    fn ends_clean(mut self) {
        self.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        self.container.take().unwrap().ip("link delete eth0").unwrap();
        let done = self.command(&["cleanup"]);
        assert!(done.status.success(), "{done:?}");
        self.before.is_again(self.host());
    }
}

#[test]
fn a_setting_that_is_changed_between_two_starts_leaves_nothing_behind() {
    let mut bed = Bed::start("changed settings");
    let on_br1 = Expected { bridge: "br1", ..DEFAULT };

    // The old bridge still has a container: its address moves, and it stays until it is free.
    bed.restart(&["--bridge", "br1"]);
    bed.agent().process.wait_for_line("of docker0 removed", 20 * SECONDS).unwrap();
    bed.host().ip("link show docker0").unwrap();
    bed.connect_to("br1");
    bed.is(&on_br1);

    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    bed.start_agent_over("eth1", 0, &["--bridge", "br1"]);
    bed.is(&Expected { uplink: "eth1", ..on_br1 });
    let accept_ra = bed.host().check(&["cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"]).unwrap();
    assert_eq!(accept_ra.trim(), "2", "the agent has the host forward: eth0 would lose its default route");

    bed.restart(&["--bridge", "br1", "--routes-metric", "600"]);
    bed.is(&Expected { metric: 600, ..on_br1 });
    bed.restart(&["--bridge", "br1", "--topology", "routed", "--export-table", "66"]);
    bed.is(&Expected { refuses_pool: false, mark: Some((66, MARK)), ..on_br1 });
    bed.restart(&["--bridge", "br1", "--export-table", "67"]);
    bed.is(&Expected { mark: Some((67, MARK)), ..on_br1 });

    // Without a rule the kernel uses none of the routes.
    bed.restart(&["--bridge", "br1", "--routes-table", "100"]);
    bed.readyz_says(503, &["no rule uses routing table 100", "ip -6 rule add lookup 100 pref 1000"]);
    bed.host().ip("-6 rule add lookup main suppress_prefixlength 0 pref 999").unwrap();
    bed.host().ip("-6 rule add lookup 100 pref 1000").unwrap();
    bed.readyz_says(200, &[]);
    bed.is(&Expected { table: 100, ..on_br1 });
    bed.host().ip("-6 rule del pref 999").unwrap();
    bed.host().ip("-6 rule del pref 1000").unwrap();

    // Before the agent is started with them, the doctor says what is left.
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let doctor = bed.command(&["--uplink", "eth0", "doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains("a change for earlier settings remains") && said.contains("of br1 removed"),
        "{said}"
    );
    bed.start_agent(0, &[]);
    bed.agent().process.wait_for_line("of br1 removed", 20 * SECONDS).unwrap();
    bed.connect_to("docker0");
    bed.is(&DEFAULT);
    let doctor = bed.command(&["--uplink", "eth0", "doctor"]);
    assert!(doctor.status.success(), "{doctor:?}");
    bed.ends_clean();
}

#[test]
fn each_flag_that_names_a_thing_is_obeyed_or_not_obeyed_aloud() {
    let mut bed = Bed::start("each flag");
    let help = bed.command(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let flags = help.lines().filter_map(|line| {
        let words = line.trim_start().trim_start_matches(|it| it != '-').split_whitespace();
        let flag = words.take(2).find(|word| word.starts_with("--"))?;
        Some(flag.split(['[', '=']).next().unwrap_or_default().to_owned())
    });
    let unknown: Vec<_> = flags
        .filter(|flag| !OTHERS.contains(&flag.as_str()) && CHANGES.iter().all(|(it, ..)| it != flag))
        .collect();
    assert!(unknown.is_empty(), "say what a change of them comes to: {unknown:?}");
    bed.host().ip("-6 rule add lookup 100 pref 40000").unwrap();

    for (flag, to, outcome) in &CHANGES {
        eprintln!("{flag} {to}");
        bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        match *flag {
            "--uplink" => bed.start_agent_over(to, 0, &[]),
            "--export-metric" => bed.start_agent(0, &["--export-table", "67", flag, to]),
            _ => bed.start_agent(0, &[flag, to]),
        }
        match outcome {
            Is(expected) if expected.bridge != DEFAULT.bridge => {
                bed.connect_to(expected.bridge);
                bed.is(expected);
                // Before the next start: the bridge of the others is made anew by it.
                bed.restart(&[]);
                bed.connect_to(DEFAULT.bridge);
                bed.is(&DEFAULT);
            }
            Is(expected) => bed.is(expected),
            Reported(words) => {
                bed.agent().process.wait_for_line(words, 20 * SECONDS).unwrap();
                bed.is(&DEFAULT);
            }
            Refused(words) => {
                let ended = bed.agent().process.wait(10 * SECONDS).unwrap();
                let log = bed.agent().process.log();
                assert!(!ended.success() && log.contains(words), "{log}");
                bed.cluster.agents.remove(0);
                bed.start_agent(0, &[]);
                bed.is(&DEFAULT);
            }
        }
    }
    bed.restart(&[]);
    bed.is(&DEFAULT);
    bed.host().ip("-6 rule del pref 40000").unwrap();
    bed.ends_clean();
}

#[test]
fn a_kill_in_the_middle_of_a_move_leaves_it_to_the_next_start() {
    let mut bed = Bed::start("killed moves");
    for round in 0..8u32 {
        let bridge = if round % 2 == 0 { "br1" } else { "docker0" };
        bed.cluster.agents.remove(0).process.kill().unwrap();
        bed.start_agent(0, &["--bridge", bridge]);
        // From before the ledger is read to after all is done.
        poll("the agent has begun", 10 * SECONDS, || {
            let begun = bed.agent().process.log_len() > 0;
            if begun { Ok(()) } else { Err("no line") }
        });
        std::thread::sleep(round * 3 * MILLISECONDS);
    }
    bed.cluster.agents.remove(0).process.kill().unwrap();
    bed.start_agent(0, &["--bridge", "br1"]);
    bed.agent().process.wait_for_line("agent started", 10 * SECONDS).unwrap();
    bed.connect_to("br1");
    bed.is(&Expected { bridge: "br1", ..DEFAULT });
    bed.ends_clean();
}

#[test]
fn a_setting_that_cannot_be_obeyed_is_reported() {
    let mut bed = Bed::start("not obeyed");
    bed.restart(&["--host-len", "60", "--pool", "nosuch"]);
    for words in ["--host-len 60 has no effect", "--pool nosuch has no effect"] {
        bed.agent().process.wait_for_line(words, 20 * SECONDS).unwrap();
    }
    bed.is(&DEFAULT);
    let doctor = bed.command(&["--uplink", "eth0", "--host-len", "60", "doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!doctor.status.success() && said.contains("--host-len 60 has no effect"), "{said}");

    // Another interface gets the container prefix by other hands: it is not the agent's to take away.
    let other = format!("{}/80", bed.cluster.prefix("h1").first_host());
    bed.host().ip(&format!("-6 address add {other} dev eth1 nodad")).unwrap();
    bed.readyz_says(503, &["interface eth1 also has the container prefix of bridge docker0"]);
    bed.host().ip(&format!("-6 address del {other} dev eth1")).unwrap();
    bed.readyz_says(200, &[]);

    let before = bed.now().unwrap();
    for (args, words) in [
        (&["--bridge", "eth1", "--uplink", "eth1"][..], "is also an uplink"),
        (&["--role", "router"], "still holds"),
    ] {
        bed.restart(args);
        let ended = bed.agent().process.wait(10 * SECONDS).unwrap();
        let log = bed.agent().process.log();
        assert!(!ended.success() && log.contains(words), "{log}");
        bed.cluster.agents.remove(0);
        bed.start_agent(0, &[]);
        bed.readyz_says(200, &[]);
        assert_eq!(bed.now().unwrap(), before);
    }
}

/// The way that the refusal names.
#[test]
fn a_host_becomes_a_router_once_it_holds_nothing() {
    let mut bed = Bed::start("host to router");
    let peer = bed.cluster.prefix("h2");
    bed.container.take().unwrap().ip("link delete eth0").unwrap();
    bed.cluster.sextant(&["node", "drain", "h1", "--timeout", "20s"]);
    bed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let forget = Duration::from_secs(30);
    poll("h1 is forgotten", forget, || {
        bed.cluster.lab.cli(&["node", "forget", "h1", "--force"])?.succeeded()
    });
    assert!(bed.command(&["cleanup"]).status.success());
    bed.before.is_again(bed.host());
    let state = bed.cluster.lab.dir().join("router").display().to_string();
    bed.start_agent(0, &["--role", "router", "--state-dir", &state]);
    let expected = sorted(vec![
        format!("{peer} via 2001:db8::2 dev eth0 proto 66 metric 512"),
        format!("unreachable {} proto 66 metric {UNREACHABLE_METRIC}", GUIDE.prefix),
    ]);
    poll("the routes of a router, no address and no bridge", 20 * SECONDS, || {
        let now = bed.now()?;
        anyhow::ensure!(now == expected, "{now:#?}");
        anyhow::Ok(())
    });
}
