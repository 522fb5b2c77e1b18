//! `[[docker.network]]`: networks beside the main one, with parts of the host prefixes.

use std::fs;

use sextant_proto::Prefix;
use sextant_tests::{SECONDS, bin, cluster::PoolArgs, expect_text, poll};

use crate::{
    bed::{Bed, NETWORK},
    doctor::{doctor, is_well},
    firewall::FIREWALL,
};

/// The second pool.
const ULA: PoolArgs = PoolArgs { prefix: "fd00:5e00::/40", host_len: "64", container_len: "80" };

/// Starts the agents again with a config file that has these networks, in this order; each by its keys.
fn networks_are(bed: &mut Bed, more: &[&str], networks: &[&str]) -> String {
    let config = bed.cluster.hosts[0].dir().join("networks.toml");
    let networks: String = networks.iter().map(|keys| format!("[[docker.network]]\n{keys}\n")).collect();
    fs::write(&config, format!("[docker]\nmode = \"network\"\n{networks}")).unwrap();
    let config = config.display().to_string();
    bed.restart_agents(&[&NETWORK[..], &["--config", &config], more].concat());
    config
}

/// Waits until the engine of a host has a network with a part of this prefix; returns the part.
fn part(bed: &Bed, index: usize, network: &str, of: &str) -> String {
    let host: Prefix = of.parse().unwrap();
    poll(&format!("network {network} has a part of {of}"), 10 * SECONDS, || {
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let subnets = bed.engines[index].run(&["network", "inspect", "-f", format, network])?;
        let inside = |it: &&str| it.parse().is_ok_and(|prefix| host.covers(prefix));
        subnets.split(' ').find(inside).map(str::to_owned).ok_or_else(|| anyhow::anyhow!("{subnets}"))
    })
}

fn host_prefix(bed: &Bed, index: usize, claim: usize) -> String {
    let node = bed.cluster.node(bed.cluster.hosts[index].name());
    node["claims"][claim]["host_prefix"].as_str().unwrap().to_owned()
}

fn has_no_network(bed: &Bed, index: usize, network: &str) {
    poll(&format!("network {network} is gone"), 10 * SECONDS, || {
        let all = bed.engines[index].run(&["network", "ls", "--format", "{{.Name}}"])?;
        anyhow::ensure!(!all.lines().any(|name| name == network), "{all}");
        Ok(())
    });
}

/// The address of a container on a network.
fn address_on(bed: &Bed, index: usize, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").GlobalIPv6Address}}}}");
    bed.engines[index].run(&["inspect", "-f", &format, container]).unwrap()
}

#[test]
fn networks_have_parts_of_the_host_prefix_that_stay_whatever_becomes_of_the_list() {
    let mut bed = Bed::start("docker networks", 2, &[]);
    let (db, cache) = ("name = \"db\"", "name = \"cache\"\nlength = 96\nbridge = \"br-cache\"");
    let config = networks_are(&mut bed, &[], &[db, cache]);
    let hosts = [0, 1].map(|index| host_prefix(&bed, index, 0));
    let parts = [0, 1]
        .map(|index| [part(&bed, index, "db", &hosts[index]), part(&bed, index, "cache", &hosts[index])]);
    assert!(parts[0][0].ends_with(":1::/80") && parts[0][1].ends_with(":2::/96"), "{parts:?}");
    let web = bed.engines[0].container("web", &["--network", "db"]).unwrap();
    let other = bed.engines[1].container("other", &["--network", "cache"]).unwrap();
    let main = bed.engines[1].container("main", &["--network", "sextant"]).unwrap();
    bed.pings(0, "web", &other);
    bed.pings(1, "other", &web);
    bed.pings(0, "web", &main);
    bed.pings(1, "other", &main);
    bed.engines[0].serve("web", 8000).unwrap();
    expect_text("the source", 10 * SECONDS, &other, || bed.engines[1].ask("other", &web, 8000));
    bed.cluster.hosts[1].ip("link show br-cache").unwrap();
    poll("the parts are container prefixes", 10 * SECONDS, || {
        let shown = bed.container_prefixes(0);
        anyhow::ensure!(parts[0].iter().all(|part| shown.contains(part)), "{shown:?}");
        Ok(())
    });
    bed.status_is_silent();
    is_well(&bed, &["--docker-mode", "network", "--bridge", "sextant0", "--config", &config], "networks");

    // Another order, one fewer, one more.
    networks_are(&mut bed, &[], &["name = \"new\"", cache]);
    let used = ["agent.toml does not name Docker's network db any more", "on it: web", "docker rm -f web"];
    bed.status_has(&used);
    let found = doctor(&bed, &["--docker-mode", "network", "--bridge", "sextant0", "--config", &config], &[]);
    assert!(used.iter().all(|words| found.contains(words)), "{found}");
    bed.pings(1, "other", &web);
    assert_eq!(part(&bed, 0, "cache", &hosts[0]), parts[0][1]);
    let new = part(&bed, 0, "new", &hosts[0]);
    assert!(new.ends_with(":3::/80"), "{new}");
    has_no_network(&bed, 1, "db");
    // The fix, word for word.
    bed.engines[0].run(&["rm", "-f", "web"]).unwrap();
    has_no_network(&bed, 0, "db");
    bed.status_is_silent();

    // They are made again, and follow the prefix.
    bed.engines[0].run(&["network", "rm", "cache"]).unwrap();
    assert_eq!(part(&bed, 0, "cache", &hosts[0]), parts[0][1]);
    bed.cluster.sextant(&["node", "reassign", "h1"]);
    poll("another prefix", 20 * SECONDS, || {
        anyhow::ensure!(host_prefix(&bed, 0, 0) != hosts[0]);
        Ok(())
    });
    let moved = part(&bed, 0, "cache", &host_prefix(&bed, 0, 0));
    assert!(moved.ends_with(":2::/96"), "the same part: {moved}");
    // They follow the MTU of the path too.
    bed.cluster.hosts[0].ip("link set eth0 mtu 1400").unwrap();
    expect_text("the network's MTU", 10 * SECONDS, "1400", || {
        let option = r#"{{index .Options "com.docker.network.driver.mtu"}}"#;
        bed.engines[0].run(&["network", "inspect", "-f", option, "cache"])
    });
    bed.status_is_silent();

    // At a boot, their rules stand before the engine and a controller are there.
    bed.cluster.agents.clear();
    let host = &bed.cluster.hosts[0];
    host.check(&["ip6tables", "-F"]).unwrap();
    let state = bed.cluster.lab.state_dir(host).display().to_string();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let controller = ["--controller", "http://[2001:db8::c:1]:7300", "--insecure", "--node", "h1"];
    let own = ["--state-dir", &state, "--uplink", "eth0", "--config", &config, "prepare"];
    host.check(&[&[program.as_str()], &controller[..], &own].concat()).unwrap();
    let rules = host.check(&["ip6tables", "-S"]).unwrap();
    assert!(rules.contains(&format!("-d {moved} ")), "{rules}");
}

#[test]
fn containers_on_networks_of_two_pools_reach_each_other_in_both() {
    let mut bed = Bed::start_with("docker two pools", 2, &[], &FIREWALL);
    bed.cluster.add_another_pool("ula", ULA);
    let pools = ["--pool", "main,ula"];
    let config = networks_are(&mut bed, &pools, &["name = \"ula\"\npool = \"ula\""]);
    for index in 0..2 {
        poll("a claim of each pool", 20 * SECONDS, || {
            let node = bed.cluster.node(bed.cluster.hosts[index].name());
            anyhow::ensure!(node["claims"].as_array().is_some_and(|claims| claims.len() == 2), "{node}");
            Ok(())
        });
        part(&bed, index, "ula", &host_prefix(&bed, index, 1));
        bed.engines[index].container("web", &["--network", "sextant"]).unwrap();
        bed.engines[index].run(&["network", "connect", "ula", "web"]).unwrap();
        bed.engines[index].serve("web", 8000).unwrap();
    }
    let of = |index| ["sextant", "ula"].map(|network| address_on(&bed, index, "web", network));
    let addresses = [of(0), of(1)];
    assert!(addresses[0][0].starts_with("2001:") && addresses[0][1].starts_with("fd00:"), "{addresses:?}");
    for (from, to) in [(0, 1), (1, 0)] {
        for address in &addresses[to] {
            bed.pings(from, "web", address);
            // A port that is not published; the source is the address on the network of the default route.
            expect_text(&format!("TCP from {from} to {address}"), 10 * SECONDS, &addresses[from][0], || {
                bed.engines[from].ask("web", address, 8000)
            });
        }
    }
    let explained = ["explain", &addresses[1][1]];
    poll("the container is named", 10 * SECONDS, || {
        let text = bed.cluster.lab.cli(&explained)?.succeeded()?.stdout;
        anyhow::ensure!(text.contains("is container web on h2 (network ula)"), "{text}");
        Ok(())
    });
    // One that is on the second network only.
    let only = bed.engines[0].container("only", &["--network", "ula"]).unwrap();
    bed.engines[0].serve("only", 8000).unwrap();
    let only_there = bed.engines[1].container("only", &["--network", "ula"]).unwrap();
    expect_text("the source", 10 * SECONDS, &only_there, || bed.engines[1].ask("only", &only, 8000));
    // From one network to another of the same host.
    bed.pings(0, "only", &addresses[0][0]);
    bed.status_is_silent();
    let mode = ["--docker-mode", "network", "--bridge", "sextant0", "--config", &config];
    is_well(&bed, &[&mode[..], &pools].concat(), "two pools");
}
