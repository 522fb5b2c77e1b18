//! A router that misbehaves harms nobody: not the agent, not its other neighbours (DESIGN I10).

use std::fs;

use anyhow::ensure;
use serde_json::Value;
use sextant_tests::{Bird, MILLISECONDS, SECONDS, poll};

use crate::{
    raw::{DRIP, Raw, keepalive, message, open, update},
    site::Site,
};

/// h1, with BIRD on h2 as a neighbour that behaves, and the router as one that does not.
struct Bed {
    site: Site,
    bird: Bird,
}

impl Bed {
    fn new(test: &str) -> Self {
        let mut site = Site::new(test);
        let path = site.cluster.lab.dir().join("h1.toml").display().to_string();
        let neighbours =
            [("2001:db8::fe:1", 65000, "passive = true"), ("2001:db8::2", 65002, "hold-time = 3")]
                .map(|(address, remote, more)| {
                    format!("[[bgp.neighbour]]\naddress = \"{address}\"\nremote-as = {remote}\n{more}\n")
                })
                .concat();
        fs::write(&path, format!("[bgp]\nlocal-as = 65001\nrouter-id = \"192.0.2.1\"\n{neighbours}"))
            .unwrap();
        let bird = site.cluster.hosts[1]
            .bird_with(
                "router id 192.0.2.202; protocol device { }
                 protocol bgp h1 { local 2001:db8::2 as 65002; neighbor 2001:db8::1 as 65001;
                   connect delay time 1; connect retry time 1; error wait time 1, 2; ipv6 { import all; export none; }; }",
            )
            .unwrap();
        site.start_host(0, &["--config", &path]);
        site.becomes("h1", "ready");
        let bed = Self { site, bird };
        poll("BIRD's session", 20 * SECONDS, || {
            let it = bed.neighbour("2001:db8::2");
            if it["state"] == "established" { Ok(()) } else { Err(it.to_string()) }
        });
        bed
    }

    /// What `sextant bgp` says of one of h1's neighbours.
    fn neighbour(&self, address: &str) -> Value {
        let all = self.site.cluster.lab.cli_json(&["bgp", "--node", "h1"]).unwrap();
        let found = all.as_array().into_iter().flatten().find(|it| it["neighbour"] == address);
        found.cloned().unwrap_or(Value::Null)
    }

    /// Waits until `sextant bgp` names the router, and says this of it.
    fn says(&self, what: &str) {
        poll(&format!("sextant bgp says \"{what}\" of the router"), 10 * SECONDS, || {
            let it = self.neighbour("2001:db8::fe:1");
            let error = it["error"].as_str().unwrap_or_default();
            if error.contains(what) { Ok(()) } else { Err(it.to_string()) }
        });
    }

    fn raw(&self) -> Raw {
        Raw::connect(&self.site.router)
    }

    /// What the router says, and what h1 answers: the NOTIFICATION, and the words for people.
    fn is_refused(&self, octets: &[u8], answer: [u8; 2], words: &str) {
        let mut raw = self.raw();
        raw.say(octets).unwrap();
        assert_eq!(raw.hear_the_end(), answer, "{words}");
        self.says(words);
    }

    /// How much memory the agent has, in KiB, and how many files are open in it.
    fn burden(&self) -> (u64, usize) {
        let proc = format!("/proc/{}", self.site.cluster.agents[0].process.pid());
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let rss = rss.split_whitespace().next().unwrap().parse().unwrap();
        (rss, fs::read_dir(format!("{proc}/fd")).unwrap().count())
    }
}

#[test]
fn i10_a_router_that_misbehaves_harms_nobody() {
    let bed = Bed::new("bgp: misbehaving");
    let good = |bed: &Bed| {
        let it = bed.neighbour("2001:db8::2");
        (it["state"].clone(), it["since_unix_ms"].clone(), it["error"].clone())
    };
    let before = good(&bed);
    let (_, files) = bed.burden();

    refused_at_once(&bed);
    odd_but_right(&bed);
    malformed_updates(&bed);
    flood(&bed);
    silent_and_torn(&bed);

    assert_eq!(good(&bed), before, "the session with BIRD is the same one, and nothing went wrong there");
    let protocols = bed.bird.ask("show protocols all h1").unwrap();
    assert!(protocols.contains("Established"), "{protocols}");
    poll("no connection is left over", 15 * SECONDS, || {
        let (_, now) = bed.burden();
        if now <= files + 1 { Ok(()) } else { Err(format!("{now} files are open, and were {files}")) }
    });
    assert!(bed.site.cluster.agents[0].process.ended().unwrap().is_none());
    assert_eq!(bed.site.cluster.node("h1")["state"], "ready");
    let log = bed.site.cluster.agents[0].process.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn refused_at_once(bed: &Bed) {
    let header = |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
    bed.is_refused(
        b"GET / HTTP/1.1\r\nHost: h1\r\n\r\n",
        [1, 1],
        "it sent what cannot be read: invalid header marker",
    );
    bed.is_refused(&header(4097, 2), [1, 2], "invalid message length 4097");
    bed.is_refused(&header(20, 1), [1, 2], "invalid message length 20");
    bed.is_refused(&header(19, 99), [1, 3], "unknown message type 99");
    bed.is_refused(&keepalive(), [5, 1], "we ended the session: ");
    bed.is_refused(&open(90, [0; 4], &[]), [2, 3], "we ended the session: Bad BGP Identifier");
    bed.is_refused(&open(2, [192, 0, 2, 200], &[]), [2, 6], "we ended the session: Unacceptable Hold Time");
    // A message that ends half-way, with the connection.
    let mut raw = bed.raw();
    raw.say(&open(90, [192, 0, 2, 200], &[])[..25]).unwrap();
    raw.shut();
    bed.says("the neighbour closed the connection");
}

/// Slowly, and with unknown capabilities.
fn odd_but_right(bed: &Bed) {
    let mut raw = bed.raw();
    raw.drip(&open(90, [192, 0, 2, 200], &[200, 3, 1, 2, 3, 239, 0, 129, 1, 7]), DRIP);
    raw.drip(&keepalive(), DRIP);
    let kinds: Vec<_> = (0..4).map(|_| raw.hear().unwrap().0).collect();
    assert_eq!(kinds, [1, 4, 2, 2], "an OPEN, a KEEPALIVE, the own prefix, End-of-RIB");
    // A refresh of IPv4 and one of nothing are passed over; one of IPv6 is answered.
    raw.say(&[message(5, &[0, 1, 0, 1]), message(5, &[9, 9, 0, 9])].concat()).unwrap();
    raw.drip(&message(5, &[0, 2, 0, 1]), DRIP);
    assert_eq!(raw.hear().unwrap().0, 2);
    raw.says_only(&[4], 300 * MILLISECONDS);
    raw.say(&message(3, &[&[6, 2, 7][..], b"mending"].concat())).unwrap();
    bed.says("it ended the session: ");
    bed.says("mending");
}

fn malformed_updates(bed: &Bed) {
    let mut raw = Raw::establish(&bed.site.router, 90, &[]);
    raw.say(&update(1, &[0xc0, 8, 3, 1, 2, 3])).unwrap();
    bed.says("it sent an UPDATE that is wrong (COMMUNITIES: ");
    bed.says("what it announces counts as withdrawn");
    raw.say(&update(1, &[0xc0, 7, 1, 1])).unwrap();
    bed.says("it sent an UPDATE that is wrong (AGGREGATOR: ");
    raw.says_only(&[2, 4], 200 * MILLISECONDS);
    raw.say(&update(1, &[0x40, 99, 0])).unwrap();
    assert_eq!(raw.hear_the_end(), [3, 2]);
    bed.says("attribute 99 is said to be well-known, and is not known");
}

/// As many UPDATE messages as a full table, and the connection reset in the middle of one.
fn flood(bed: &Bed) {
    let mut raw = Raw::establish(&bed.site.router, 90, &[]);
    let some: Vec<u8> = (0..1000)
        .flat_map(|n| update(n, &[0xc0, 211, 40].iter().copied().chain([7; 40]).collect::<Vec<_>>()))
        .collect();
    raw.say(&some).unwrap();
    let (before, _) = bed.burden();
    for _ in 0..100 {
        raw.say(&some).unwrap();
    }
    poll("100,000 updates are read", 30 * SECONDS, || {
        let received = bed.neighbour("2001:db8::fe:1")["received"].as_u64().unwrap_or_default();
        if received >= 101_000 { Ok(()) } else { Err(received.to_string()) }
    });
    let (after, _) = bed.burden();
    assert!(after < before + 4096, "{before} KiB before the flood, {after} after it");
    raw.say(&some[..some.len() - 11]).unwrap();
    raw.reset();
    bed.says("Connection reset");
}

/// Connections that say nothing, or end within the handshake; the next one that speaks has a session all the same.
fn silent_and_torn(bed: &Bed) {
    let silent: Vec<_> = (0..20).map(|_| bed.raw()).collect();
    for _ in 0..20 {
        let mut raw = bed.raw();
        raw.say(&open(90, [192, 0, 2, 200], &[])).unwrap();
        raw.reset();
    }
    // Some of so many are not taken: a router tries again.
    let session = poll("a session in spite of them", 15 * SECONDS, || {
        let mut raw = bed.raw();
        raw.say(&[open(90, [192, 0, 2, 200], &[]), keepalive()].concat())?;
        ensure!(raw.hear()?.0 == 1 && raw.hear()?.0 == 4 && raw.hear()?.0 == 2, "no session");
        anyhow::Ok(raw)
    });
    assert_eq!(bed.neighbour("2001:db8::fe:1")["state"], "established");
    drop((silent, session));
}
