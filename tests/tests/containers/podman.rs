//! Podman on the agent's bridge, from root directories of Debian 12 and 13: by a network in which it leaves the bridge alone, and by hand.

use std::{net::Ipv6Addr, path::PathBuf, process::Command};

use anyhow::ensure;
use sextant_tests::{
    Podman, SECONDS,
    cluster::{Cluster, GUIDE, PoolArgs},
    debian_root, enter_at, poll,
};

use crate::{
    bed::{Bed, OWN, cluster, container_prefix},
    documented::{blocks, by_hand},
};

/// SLAAC takes no longer prefix.
const WHOLE: PoolArgs = PoolArgs { container_len: "64", ..GUIDE };
/// The file of the network.
const NETWORK: &str = "/etc/containers/networks/sextant.json";

/// A root directory of a release, with its Podman.
fn root(release: &str) -> PathBuf {
    let packages = "podman,netavark,aardvark-dns,crun,iptables,nftables,iproute2,procps,util-linux";
    debian_root(&format!("{release}-podman"), release, packages).unwrap()
}

/// Podman on each host of a cluster.
fn podmans(cluster: &Cluster, release: &str) -> Vec<Podman> {
    let root = root(release);
    cluster.hosts.iter().map(|host| Podman::start(host, &root).unwrap()).collect()
}

fn has_version(podman: &Podman, version: &str, netavark: &str) {
    let found = podman.shell("podman --version; /usr/lib/podman/netavark --version").unwrap();
    assert!(found.contains(&format!("version {version}.")) && found.contains(netavark), "{found}");
}

/// The global addresses of a container, once they can be used.
fn addresses(podman: &Podman, container: &str) -> Vec<Ipv6Addr> {
    let mut found = Vec::new();
    poll(&format!("{container} has an address"), 20 * SECONDS, || {
        let shown = podman.run(&["exec", container, "ip", "-6", "address", "show", "dev", "eth0"])?;
        ensure!(shown.contains("scope global") && !shown.contains("tentative"), "{shown}");
        let lines = shown.lines().filter(|line| line.contains("scope global"));
        let address = |line: &str| line.split_whitespace().nth(1)?.split('/').next()?.parse().ok();
        found = lines.filter_map(address).collect();
        Ok(())
    });
    found
}

fn pings(podman: &Podman, container: &str, to: Ipv6Addr) {
    let (namespace, to) = (podman.namespace_of(container).unwrap(), to.to_string());
    poll(&format!("{container} reaches {to}"), 10 * SECONDS, || {
        let mut ping = Command::new("ping");
        let done = enter_at(&namespace, || ping.args(["-n", "-c", "1", "-W", "1", &to]).output())??;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    });
}

/// The address that a container is seen by when it asks another one, which serves HTTP.
fn seen_as(podman: &Podman, container: &str, server: Ipv6Addr) -> Ipv6Addr {
    let ask = format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {server} 8080");
    let answer = podman.run(&["exec", container, "sh", "-c", &ask]).unwrap();
    let seen = answer.rsplit_once("from ").and_then(|(_, from)| from.trim_matches(['[', ']']).parse().ok());
    seen.unwrap_or_else(|| panic!("the answer is: {answer}"))
}

fn serve(podman: &Podman, container: &str) {
    podman.run(&["exec", container, "httpd", "-p", "8080", "-h", "/www"]).unwrap();
}

/// Containers named `web` on both hosts reach each other. Returns their addresses.
fn reach_each_other(podmans: &[Podman]) -> Vec<Ipv6Addr> {
    let own: Vec<_> = podmans.iter().map(|podman| addresses(podman, "web")[0]).collect();
    pings(&podmans[0], "web", own[1]);
    pings(&podmans[1], "web", own[0]);
    own
}

/// The same, and each sees the address of the other one.
fn reach_each_other_as_themselves(podmans: &[Podman]) {
    let own = reach_each_other(podmans);
    podmans.iter().for_each(|podman| serve(podman, "web"));
    assert_eq!(seen_as(&podmans[0], "web", own[1]), own[0]);
    assert_eq!(seen_as(&podmans[1], "web", own[0]), own[1]);
}

/// The index of the first host's bridge: another bridge of this name has another one.
fn bridge(cluster: &Cluster) -> String {
    let shown = cluster.hosts[0].ip("-o link show dev sextant0").unwrap();
    shown.split(':').next().unwrap().to_owned()
}

/// Makes the network and the containers of the page on both hosts.
fn on_the_documented_network(cluster: &Cluster, podmans: &[Podman]) {
    for (host, podman) in cluster.hosts.iter().zip(podmans) {
        let prefix = container_prefix(host);
        podman.write(NETWORK, &blocks("podman", "json", prefix)[0]).unwrap();
        podman.shell(&blocks("podman", "sh", prefix)[0]).unwrap();
    }
}

#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 13"]
fn podman_5_leaves_the_bridge_alone() {
    let cluster = cluster("podman 5", 2, GUIDE, &[]);
    let podmans = podmans(&cluster, "trixie");
    has_version(&podmans[0], "5", "1.14");
    on_the_documented_network(&cluster, &podmans);
    reach_each_other_as_themselves(&podmans);
    for (host, podman) in cluster.hosts.iter().zip(&podmans) {
        let own = container_prefix(host).addr().to_bits();
        assert_eq!(addresses(podman, "web"), [Ipv6Addr::from_bits(own + 2)]);
        assert_eq!(addresses(podman, "db"), [Ipv6Addr::from_bits(own + 0x9a)]);
    }
    // The bridge outlives its containers, and takes new ones.
    let before = bridge(&cluster);
    podmans[0].run(&["rm", "--force", "--time", "0", "web", "db"]).unwrap();
    assert_eq!(bridge(&cluster), before);
    podmans[0].shell(&blocks("podman", "sh", container_prefix(&cluster.hosts[0]))[0]).unwrap();
    reach_each_other(&podmans);
}

/// The reason for the file.
#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 13"]
fn podman_5_makes_no_network_of_a_prefix_on_the_host() {
    let cluster = cluster("podman 5 network create", 1, GUIDE, &[]);
    let podman = podmans(&cluster, "trixie").remove(0);
    let subnet = container_prefix(&cluster.hosts[0]).to_string();
    let create = ["network", "create", "--interface-name", OWN, "--opt", "mode=unmanaged"];
    let refused = podman.run(&[&create[..], &["--subnet", &subnet, "sextant"]].concat()).unwrap_err();
    assert!(refused.to_string().contains("already used on the host"), "{refused}");
}

#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 13"]
fn podman_5_has_containers_with_addresses_by_slaac() {
    let cluster = cluster("podman 5 slaac", 2, WHOLE, &["--bridge-advertise"]);
    let podmans = podmans(&cluster, "trixie");
    for podman in &podmans {
        podman.shell(&blocks("podman", "sh", "2001:db8::/80".parse().unwrap())[1]).unwrap();
        podman.shell("podman run -d --name web --network sextant docker.io/library/nginx").unwrap();
    }
    reach_each_other_as_themselves(&podmans);
}

/// A container that is on no network gets one by hand with each version.
fn by_hand_with(release: &str) {
    let bed = Bed::start(&format!("podman --network none of {release}"));
    let podman = Podman::start(bed.host(), &root(release)).unwrap();
    podman
        .shell(&by_hand(bed.prefix, "podman").replace("none nginx", "none docker.io/library/nginx"))
        .unwrap();
    bed.is_reached();
}

#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 13"]
fn podman_5_has_containers_by_hand() {
    by_hand_with("trixie");
}

#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 12"]
fn podman_4_has_containers_by_hand() {
    by_hand_with("bookworm");
}

/// The reason for the warning: others see the host's address, and the bridge goes with its last container.
#[test]
#[ignore = "slow: makes a root directory with Podman of Debian 12"]
fn podman_4_masquerades_and_takes_the_bridge_away() {
    let cluster = cluster("podman 4", 2, GUIDE, &[]);
    let podmans = podmans(&cluster, "bookworm");
    has_version(&podmans[0], "4.3", "1.4");
    on_the_documented_network(&cluster, &podmans);
    let far = addresses(&podmans[1], "web")[0];
    serve(&podmans[1], "web");
    pings(&podmans[0], "web", far);
    assert_eq!(seen_as(&podmans[0], "web", far), cluster.hosts[0].address());
    let before = bridge(&cluster);
    podmans[0].run(&["rm", "--force", "--time", "0", "web", "db"]).unwrap();
    // The agent makes another one.
    poll("the agent has made the bridge again", 10 * SECONDS, || {
        let now = cluster.hosts[0].ip("-o link show dev sextant0")?;
        ensure!(!now.starts_with(&format!("{before}:")), "{now}");
        Ok(())
    });
}
