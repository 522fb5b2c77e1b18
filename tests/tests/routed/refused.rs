//! Sessions that must not be, each with an error that names the neighbour and the fix; and reported ends.

use std::fs;

use serde_json::Value;
use sextant_tests::{Bird, Frr, SECONDS, poll};

use crate::site::Site;

/// What h1 has of neighbours: the router's addresses, each a router of its own to it.
const NEIGHBOURS: [(&str, &str); 6] = [
    ("2001:db8::fe:1", "hold-time = 3"),
    ("2001:db8::fe:3", ""),
    ("2001:db8::fe:4", "password-file = \"KEY\""),
    ("2001:db8::fe:5", "password-file = \"KEY\""),
    ("2001:db8::fe:6", "ttl-security = true"),
    ("2001:db8::fe:8", ""),
];

/// What FRR has for each of them.
const AT_FRR: [(&str, &str, &str); 6] = [
    ("1", "65001", "shutdown-words"),
    ("3", "65001", "password right"),
    ("4", "65001", ""),
    ("5", "65001", "password right"),
    ("6", "65001", ""),
    ("8", "65099", ""),
];

struct Refused {
    site: Site,
    frr: Frr,
    far: Bird,
}

impl Refused {
    fn new() -> Self {
        let mut site = Site::new("bgp: refused");
        let (h1, router) = (&site.cluster.hosts[0], &site.router);
        let mut config = String::from("[bgp]\nlocal-as = 65001\nrestart-time = 0\n");
        let key = site.cluster.lab.dir().join("key");
        fs::write(&key, "wrong\n").unwrap();
        for (index, (address, more)) in NEIGHBOURS.iter().enumerate() {
            let source = source(index);
            if index > 0 {
                h1.ip(&format!("address add {source}/64 dev eth0 nodad")).unwrap();
                router.ip(&format!("address add {address}/64 dev eth0 nodad")).unwrap();
            }
            let more = more.replace("KEY", &key.display().to_string());
            config += &format!(
                "[[bgp.neighbour]]\naddress = \"{address}\"\nremote-as = 65000\nsource = \"{source}\"\n{more}\n"
            );
        }
        // Two hops away, and it says so by no more than the hop limit.
        config += "[[bgp.neighbour]]\naddress = \"2001:db8:0:b::3\"\nremote-as = 65003\npassive = true\nttl-security = true\n";
        let path = site.cluster.lab.dir().join("h1.toml").display().to_string();
        fs::write(&path, config).unwrap();
        let frr = router.frr_with(&frr_config()).unwrap();
        let far = site.cluster.hosts[2]
            .bird_with(
                "router id 192.0.2.203; protocol device { }
                 protocol static { ipv6; route 2001:db8::/64 via 2001:db8:0:b::fe:1; }
                 protocol bgp h1 { local 2001:db8:0:b::3 as 65003; neighbor 2001:db8::1 as 65001; multihop 5;
                   connect delay time 1; connect retry time 1; error wait time 1, 2; ipv6 { import all; export none; }; }",
            )
            .unwrap();
        site.start_host(0, &["--config", &path]);
        site.becomes("h1", "ready");
        Self { site, frr, far }
    }

    fn neighbour(&self, address: &str) -> Value {
        let all = self.site.cluster.lab.cli_json(&["bgp", "--node", "h1"]).unwrap();
        let found = all.as_array().into_iter().flatten().find(|it| it["neighbour"] == address);
        found.cloned().unwrap_or(Value::Null)
    }

    fn says(&self, address: &str, state: &str, words: &str) {
        poll(&format!("{address} is {state}: \"{words}\""), 20 * SECONDS, || {
            let it = self.neighbour(address);
            let error = it["error"].as_str().unwrap_or_default();
            if it["state"] == state && error.contains(words) { Ok(()) } else { Err(it.to_string()) }
        });
    }
}

/// Our address towards one of them.
fn source(index: usize) -> String {
    if index == 0 { "2001:db8::1".to_owned() } else { format!("2001:db8::1:{}", index + 1) }
}

fn frr_config() -> String {
    let mut neighbours = String::new();
    let mut active = String::new();
    for (index, (own, remote, more)) in AT_FRR.iter().enumerate() {
        let h1 = source(index);
        neighbours += &format!(
            " neighbor {h1} remote-as {remote}\n neighbor {h1} update-source 2001:db8::fe:{own}\n neighbor {h1} timers connect 2\n"
        );
        // The first one connects as well; of the others it is known who does.
        if index > 0 {
            neighbours += &format!(" neighbor {h1} passive\n");
        }
        if !more.is_empty() && *more != "shutdown-words" {
            neighbours += &format!(" neighbor {h1} {more}\n");
        }
        active += &format!("  neighbor {h1} activate\n");
    }
    format!(
        "router bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n\
         {neighbours} address-family ipv6 unicast\n{active} exit-address-family\nexit\n"
    )
}

#[test]
fn a_refused_session_reports_its_reason() {
    let it = Refused::new();
    it.says("2001:db8::fe:1", "established", "");
    it.says("2001:db8::fe:3", "connecting", "does it want a password (password-file)");
    it.says("2001:db8::fe:4", "connecting", "has it the same password as password-file");
    it.says("2001:db8::fe:5", "connecting", "has it the same password as password-file");
    it.says("2001:db8::fe:6", "opening", "does it send with a hop limit of 255 (ttl-security)?");
    it.says("2001:db8::fe:8", "connecting", "it ended the session: Bad Peer AS");
    it.says("2001:db8:0:b::3", "connecting", "it connected with a hop limit of 4; with ttl-security");
    let output = it.far.ask("show protocols h1").unwrap();
    assert!(!output.contains("Established"), "{output}");
    let status = it.site.cluster.sextant(&["status"]);
    assert!(status.contains("node h1: no BGP session with 2001:db8::fe:4 (AS 65000)"), "{status}");
    assert!(!it.site.cluster.agents[0].process.log().contains("\"wrong"), "the key is in the log");

    the_ends_of_a_session(&it);
}

/// Frozen, shut down with words, and come back from both.
fn the_ends_of_a_session(it: &Refused) {
    it.frr.bgpd.freeze().unwrap();
    it.says("2001:db8::fe:1", "connecting", "nothing heard for the hold time of 3 s");
    it.frr.bgpd.thaw().unwrap();
    it.says("2001:db8::fe:1", "established", "");
    let configure = |line: &str| {
        let all = ["configure terminal", "router bgp 65000", line].map(|command| ["-c", command]).concat();
        it.frr.ask_all(&all).unwrap();
    };
    configure("neighbor 2001:db8::1 shutdown message a new line card at nine");
    it.says("2001:db8::fe:1", "connecting", "Administrative Shutdown: a new line card at nine");
    configure("no neighbor 2001:db8::1 shutdown");
    it.says("2001:db8::fe:1", "established", "");
}
