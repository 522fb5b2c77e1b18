//! Both sides connect at once: exactly one session survives (RFC 4271 §6.8).

use std::fs;

use anyhow::ensure;
use serde_json::Value;
use sextant_tests::{MILLISECONDS, SECONDS, poll};

use crate::{
    bgp,
    raw::{Raw, keepalive, open},
    site::Site,
};

/// Holds back what is said on connections, not that they are made; and for the time being, those that h1 has not opened.
const MUTE: &str = "table ip6 deaf {
    chain in { type filter hook input priority 0; tcp dport 179 tcp flags & (syn | ack) == syn drop; }
}
table ip6 mute {
    chain out { type filter hook output priority 0; tcp sport 179 tcp flags & psh == psh drop; tcp dport 179 tcp flags & psh == psh drop; }
    chain in { type filter hook input priority 0; tcp sport 179 tcp flags & psh == psh drop; tcp dport 179 tcp flags & psh == psh drop; }
}";

/// h1's connections to or from an address, that stand.
fn connections(site: &Site, address: &str) -> anyhow::Result<usize> {
    let output = site.cluster.hosts[0].check(&[
        "ss",
        "-Htn",
        "state",
        "established",
        "( sport = :179 or dport = :179 )",
    ])?;
    let address = format!("[{address}]:");
    Ok(output.lines().filter(|line| line.split_whitespace().any(|word| word.starts_with(&address))).count())
}

fn neighbour(site: &Site, address: &str) -> Value {
    let all = site.cluster.lab.cli_json(&["bgp", "--node", "h1"]).unwrap();
    let found = all.as_array().into_iter().flatten().find(|it| it["neighbour"] == address);
    found.cloned().unwrap_or(Value::Null)
}

fn start(site: &mut Site, neighbours: &[(&str, u32)]) {
    let path = site.cluster.lab.dir().join("h1.toml").display().to_string();
    let text: String = neighbours
        .iter()
        .map(|(address, remote)| {
            format!("[[bgp.neighbour]]\naddress = \"{address}\"\nremote-as = {remote}\n")
        })
        .collect();
    fs::write(&path, format!("[bgp]\nlocal-as = 65001\nrouter-id = \"192.0.2.100\"\n{text}")).unwrap();
    site.start_host(0, &["--config", &path]);
}

#[test]
fn of_two_connections_with_frr_or_bird_one_survives() {
    let mut site = Site::new("bgp: collision");
    site.cluster.hosts[0].check(&["nft", MUTE]).unwrap();
    // FRR's identifier is higher than h1's, BIRD's is lower.
    let frr = bgp::frr(&site, "");
    let bird = site.cluster.hosts[1]
        .bird_with(
            "router id 192.0.2.50; protocol device { }
             protocol bgp h1 { local 2001:db8::2 as 65002; neighbor 2001:db8::1 as 65001;
               connect delay time 1; connect retry time 1; error wait time 1, 2; ipv6 { import all; export none; }; }",
        )
        .unwrap();
    let routers = [("2001:db8::fe:1", 65000), ("2001:db8::2", 65002)];
    start(&mut site, &routers);
    let connected = |router: &str, expected: usize| {
        poll(&format!("{expected} connections with {router}"), 20 * SECONDS, || {
            let count = connections(&site, router)?;
            ensure!(count == expected, "{count}");
            anyhow::Ok(())
        });
    };
    routers.iter().for_each(|(router, _)| connected(router, 1));
    site.cluster.hosts[0].check(&["nft", "delete table ip6 deaf"]).unwrap();
    routers.iter().for_each(|(router, _)| connected(router, 2));
    site.cluster.hosts[0].check(&["nft", "delete table ip6 mute"]).unwrap();
    let settled = |router: &str| {
        poll(&format!("one session with {router}"), 10 * SECONDS, || {
            let (it, count) = (neighbour(&site, router), connections(&site, router)?);
            ensure!(it["state"] == "established" && count == 1, "{count} connections: {it}");
            anyhow::Ok(it["since_unix_ms"].clone())
        })
    };
    let since = routers.map(|(router, _)| settled(router));
    poll("FRR has it", 10 * SECONDS, || {
        let output = frr.ask("show bgp ipv6 unicast summary")?;
        let line =
            output.lines().find(|line| line.starts_with("2001:db8::1 ")).unwrap_or_default().to_owned();
        // The number of prefixes stands where the state would.
        ensure!(line.split_whitespace().nth(9) == Some("1"), "{output}");
        anyhow::Ok(())
    });
    assert!(bird.ask("show protocols h1").unwrap().contains("Established"));
    let log = site.cluster.agents[0].process.log();
    assert!(!log.contains("it ended the session"), "{log}\n{}", frr.bgpd.log());
    // Nothing of the other connection comes after it.
    let until = std::time::Instant::now() + 1500 * MILLISECONDS;
    while std::time::Instant::now() < until {
        assert_eq!(routers.map(|(router, _)| settled(router)), since, "the session went down again");
    }
}

/// What a router does, step by step, and which of its connections h1 keeps.
#[test]
fn the_identifiers_say_which_connection_survives() {
    let mut site = Site::new("bgp: identifiers");
    let listener =
        site.router.enter(|| std::net::TcpListener::bind("[2001:db8::fe:1]:179")).unwrap().unwrap();
    start(&mut site, &[("2001:db8::fe:1", 65000)]);
    // Its identifier; whether it speaks on h1's connection first; whether that one survives.
    for (last, first, survives) in
        [(200, true, false), (200, false, false), (50, true, true), (50, false, true)]
    {
        let mut dialed = Raw::of(listener.accept().unwrap().0);
        assert_eq!(dialed.hear().unwrap().0, 1, "an OPEN on its own");
        let mut own = Raw::connect(&site.router);
        assert_eq!(own.hear().unwrap().0, 1, "an OPEN on the second");
        let hello = open(90, [192, 0, 2, last], &[]);
        let order = if first { [&mut dialed, &mut own] } else { [&mut own, &mut dialed] };
        for connection in order {
            // The other one may be closed by then.
            let _said = connection.say(&hello);
        }
        let (mut kept, mut closed) = if survives { (dialed, own) } else { (own, dialed) };
        assert_eq!(closed.hear_the_end(), [6, 7], "{last}, {first}");
        kept.say(&keepalive()).unwrap();
        let kinds = [kept.hear(), kept.hear()]
            .map(|heard| heard.map(|(kind, _)| kind).map_err(|error| error.to_string()));
        assert_eq!(kinds, [Ok(4), Ok(2)], "{last}, {first}: a KEEPALIVE and the own prefix");
        drop(kept);
    }
}
