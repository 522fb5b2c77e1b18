//! Which link is the uplink where no setting says it, and uplinks that lead to no peer.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use sextant_tests::{
    AgentOptions, Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Two hosts on the switch, each with a NAT link of its own, `eth9`, which has the default route and these addresses: as the
/// virtual machines of VirtualBox have it.
fn behind_nat(test: &str, addresses: [&str; 2]) -> Cluster {
    let cluster = Cluster::without_agents(test, 2, GUIDE);
    for (host, address) in cluster.hosts.iter().zip(addresses) {
        host.ip_batch(&format!(
            "link add eth9 type veth peer name nat
             link set nat up
             address add fe80::2/64 dev nat nodad
             link set eth9 up
             address add {address}/64 dev eth9 nodad
             route add default via fe80::2 dev eth9 proto static"
        ))
        .unwrap();
    }
    cluster
}

fn start(cluster: &mut Cluster, uplink: &str) {
    for index in 0..2 {
        cluster.start_agent_with(index, AgentOptions { uplink: uplink.into(), ..AgentOptions::default() });
    }
    cluster.settle();
}

fn status_says(cluster: &Cluster, words: &[&str]) {
    poll(&format!("status says {words:?}"), 40 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(words.iter().all(|word| status.contains(word)), "{status}");
        anyhow::Ok(())
    });
}

const SAME: [&str; 2] = ["fd17:625c:f037:2::15", "fd17:625c:f037:2::15"];
const ISOLATED: [&str; 2] = ["fd17:625c:f037:2::15", "fd17:625c:f037:2::16"];

#[test]
fn the_link_to_the_controller_is_the_uplink_and_not_that_of_the_default_route() {
    let mut cluster = behind_nat("guessed uplink", SAME);
    start(&mut cluster, "");
    cluster.expect_full_mesh();
    let (near, far) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// The interface gets another name, then the way to the controller another link.
#[test]
fn the_uplink_is_guessed_again_when_the_host_changes() {
    let mut cluster = behind_nat("guessed again", ISOLATED);
    start(&mut cluster, "");
    let host = &cluster.hosts[0];
    let leads = |device: &str| {
        let expected = format!("{} via 2001:db8::2 dev {device} proto 66 metric 512", cluster.prefix("h2"));
        poll(&expected, 20 * SECONDS, || {
            let routes = host.routes_of(66)?;
            anyhow::ensure!(routes.contains(&expected), "{routes:#?}");
            anyhow::Ok(())
        });
    };
    leads("eth0");
    rename(host, "eth0", "lan.5");
    leads("lan.5");
    let switch = cluster.lab.switch();
    switch
        .ip(&format!("link add q1 type veth peer name lan6 netns {}", std::ops::Deref::deref(host).name()))
        .unwrap();
    switch.ip("link set q1 master br0 up").unwrap();
    host.ip("link set lan.5 down").unwrap();
    host.ip_batch("link set lan6 up\naddress add 2001:db8::1/64 dev lan6 nodad").unwrap();
    leads("lan6");
    cluster.settle();
}

fn rename(host: &Host, from: &str, to: &str) {
    host.ip_batch(&format!(
        "link set {from} down\nlink set {from} name {to}\nlink set {to} up\naddress add 2001:db8::1/64 dev {to} nodad"
    ))
    .unwrap();
}

#[test]
fn an_address_that_two_nodes_have_is_reported() {
    let mut cluster = behind_nat("shared next hop", SAME);
    start(&mut cluster, "eth9");
    status_says(&cluster, &["on uplink eth9, as their next hop: h2 (fd17:625c:f037:2::15)", "--uplink"]);
}

#[test]
fn an_uplink_that_no_peer_is_behind_is_reported() {
    let mut cluster = behind_nat("silent uplink", ISOLATED);
    start(&mut cluster, "eth9");
    status_says(&cluster, &["no peer answers", "uplink eth9,", "--uplink", "ICMPv6"]);
    // The second uplink leads to the peers; only the first one is reported.
    let mut cluster = behind_nat("one silent uplink", ISOLATED);
    start(&mut cluster, "eth9,eth0");
    status_says(&cluster, &["no peer answers", "uplink eth9,"]);
    let status = cluster.sextant(&["status"]);
    assert!(!status.contains("uplink eth0,"), "{status}");
}

/// Names that only the kernel's own rules allow: dots, quotes, no text at all, and what a terminal or a shell would interpret.
#[test]
fn an_uplink_may_have_any_name_that_the_kernel_accepts() {
    let mut cluster = Cluster::without_agents("names", 4, GUIDE);
    let names: [&[u8]; 4] =
        [b"lan.5@x+y", "gr\u{f6}\u{df}e'".as_bytes(), b"\xff\xfe\x1b[2J", b"$(touch,x)\\n"];
    for (index, name) in names.into_iter().enumerate() {
        let (host, octets) = (&cluster.hosts[index], OsStr::from_bytes(name));
        let ip = |words: &[&OsStr]| host.check(&[&[OsStr::new("ip")], words].concat()).unwrap();
        host.ip("link set eth0 down").unwrap();
        ip(&["link", "set", "eth0", "name"].map(OsStr::new).into_iter().chain([octets]).collect::<Vec<_>>());
        ip(&["link", "set", "up", "dev"].map(OsStr::new).into_iter().chain([octets]).collect::<Vec<_>>());
        let address = format!("{}/64", host.address());
        ip(&["address", "add", &address, "nodad", "dev"]
            .map(OsStr::new)
            .into_iter()
            .chain([octets])
            .collect::<Vec<_>>());
        let path = Path::new("/proc/sys/net/ipv6/conf").join(octets).join("accept_ra");
        host.enter(|| std::fs::write(&path, "1")).unwrap().unwrap();
        // A comma separates names in the flag, and not in the file.
        let config = cluster.lab.dir().join(format!("{index}.toml"));
        let list = toml_text(&sextant_proto::link_name_text(name));
        std::fs::write(&config, format!("[uplink]\ninterface = [{list}]\n")).unwrap();
        let args = ["--config".to_owned(), config.display().to_string()].to_vec();
        let options = AgentOptions { uplink: String::new(), args, ..AgentOptions::default() };
        cluster.start_agent_with(index, options);
    }
    cluster.settle();
    for (host, name) in cluster.hosts.iter().zip(names) {
        let path = Path::new("/proc/sys/net/ipv6/conf").join(OsStr::from_bytes(name)).join("accept_ra");
        let value = host.enter(|| std::fs::read_to_string(&path)).unwrap().unwrap();
        assert_eq!(value.trim(), "2", "{}", host.name());
    }
    let containers: Vec<_> = cluster.hosts.iter().map(|host| host.container("c").unwrap()).collect();
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        let target = containers[to].address();
        poll("the path between them", 10 * SECONDS, || containers[from].ping(target)?.replied());
    }
    let shown = cluster.sextant(&["node", "show", "h3"]);
    assert!(shown.contains("\\xff\\xfe\\x1b[2J") && !shown.contains('\x1b'), "{shown:?}");
}

fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
