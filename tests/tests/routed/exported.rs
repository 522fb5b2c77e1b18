//! Routers without BGP and without an agent: static routes, as `sextant route export` writes them.

use std::fs;

use sextant_tests::{SECONDS, expect_text, ping_matrix, poll};

use crate::site::Site;

/// The protocol of zebra's static routes.
const ZEBRA_STATIC: &str = "196";

/// Three hosts whose agents leave to the router what is not on-link.
fn site(test: &str) -> Site {
    let mut site = Site::new(test);
    (0..3).for_each(|index| site.start_host(index, &[]));
    site.cluster.settle();
    site
}

fn export(site: &Site, format: &str, more: &[&str]) -> String {
    site.cluster.sextant(&[&["route", "export", "--format", format], more].concat())
}

/// What the router has of these static routes in its kernel, by the protocol's name.
fn expect(site: &Site, protocol: &str, metric: u32, hosts: &[usize]) {
    let line = |index: &usize| {
        let host = &site.cluster.hosts[*index];
        let dev = if *index == 2 { "eth1" } else { "eth0" };
        format!("{} via {} dev {dev} metric {metric}", site.cluster.prefix(host.name()), host.address())
    };
    let mut expected: Vec<_> = hosts.iter().map(line).collect();
    expected.sort();
    expect_text("the router's routes", 20 * SECONDS, &expected.join("\n"), || {
        let shown = site.router.ip(&format!("-6 route show proto {protocol}"))?;
        let ours = shown.lines().filter(|line| line.contains(" via "));
        // zebra's routes name a next hop object, too.
        let words = |line: &str| {
            let line = line.split(" pref ").next().unwrap_or_default();
            let mut words: Vec<_> = line.split_whitespace().collect();
            if let Some(at) = words.iter().position(|it| *it == "nhid") {
                words.drain(at..at + 2);
            }
            words.join(" ")
        };
        let mut ours: Vec<_> = ours.map(words).collect();
        ours.sort();
        anyhow::Ok(ours.join("\n"))
    });
}

fn all_reach_all(site: &Site) {
    let containers = site.cluster.containers();
    poll("all reach all", 10 * SECONDS, || {
        let failures = ping_matrix(&containers)?;
        anyhow::ensure!(failures.is_empty(), "{failures}");
        anyhow::Ok(())
    });
}

#[test]
fn a_linux_router_follows_by_ip_batches() {
    let site = site("export iproute2");
    let before = export(&site, "iproute2", &["--discard-pools"]);
    site.router.ip_batch(&before).unwrap();
    expect(&site, "static", 1024, &[0, 1, 2]);
    let refused = site.router.ip("-6 route show proto static type unreachable").unwrap();
    assert!(refused.contains(&site.cluster.pool.prefix.to_string()), "{refused}");
    all_reach_all(&site);

    let file = site.router.dir().join("routes.before");
    fs::write(&file, &before).unwrap();
    let since = ["--discard-pools", "--since", file.to_str().unwrap()];
    assert_eq!(export(&site, "iproute2", &since), "");
    site.cluster.sextant(&["node", "drain", "h3"]);
    let changes = export(&site, "iproute2", &since);
    assert_eq!(changes.lines().count(), 1, "{changes}");
    site.router.ip_batch(&changes).unwrap();
    expect(&site, "static", 1024, &[0, 1]);
    let wrong = site.cluster.lab.cli(&["route", "export", "--format", "junos", "--since", since[2]]).unwrap();
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("line 1 is no route of this format"), "{}", wrong.stderr);

    // Of a router that is in the far network only.
    site.cluster.sextant(&["node", "undrain", "h3"]);
    let far = site.cluster.hosts[2].address();
    let only = export(&site, "iproute2", &["--via", &format!("{far}/128")]);
    assert_eq!(only.lines().count(), 1, "{only}");
    assert!(only.contains(&format!("via {far} ")), "{only}");
}

#[test]
fn bird_includes_the_export() {
    let site = site("export bird");
    let file = site.router.dir().join("sextant.conf");
    fs::write(&file, export(&site, "bird", &[])).unwrap();
    let config = format!(
        "router id 192.0.2.1;\nprotocol device {{}}\nprotocol kernel {{ ipv6 {{ export all; }}; }}\ninclude \"{}\";\n",
        file.display()
    );
    let bird = site.router.bird_with(&config).unwrap();
    expect(&site, "bird", 32, &[0, 1, 2]);
    all_reach_all(&site);

    site.cluster.sextant(&["node", "drain", "h2"]);
    let changed = export(&site, "bird", &["--since", file.to_str().unwrap()]);
    assert!(changed.starts_with("# -route "), "{changed}");
    fs::write(&file, changed).unwrap();
    bird.ask("configure").unwrap();
    expect(&site, "bird", 32, &[0, 2]);
}

#[test]
fn vtysh_takes_the_export_and_the_changes() {
    let site = site("export frr");
    let frr = site.router.frr_static().unwrap();
    let file = site.router.dir().join("routes.before");
    let before = export(&site, "frr", &[]);
    fs::write(&file, &before).unwrap();
    let apply = |text: &str| {
        let commands: Vec<_> = std::iter::once("configure terminal").chain(text.lines()).collect();
        frr.ask_all(&commands.iter().flat_map(|it| ["-c", *it]).collect::<Vec<_>>()).unwrap();
    };
    apply(&before);
    expect(&site, ZEBRA_STATIC, 20, &[0, 1, 2]);
    all_reach_all(&site);

    site.cluster.sextant(&["node", "drain", "h3"]);
    apply(&export(&site, "frr", &["--since", file.to_str().unwrap()]));
    expect(&site, ZEBRA_STATIC, 20, &[0, 1]);
}
