//! Ports that other daemons have.

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket,
    sockopt::Ipv6V6Only,
};
use sextant_tests::{
    AgentOptions, Bird, ControllerOptions, Host, Lab, Namespace, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

const ROUTER: &str = "2001:db8::fe:1";

/// The agents' `[bgp]`, as a file of its name.
fn config(lab: &Lab, name: &str, more: &str) -> AgentOptions {
    let path = lab.dir().join(name);
    let neighbour = format!("[[bgp.neighbour]]\naddress = \"{ROUTER}\"\nremote-as = 65000\n{more}\n");
    fs::write(&path, format!("[bgp]\nlocal-as = 65001\n{neighbour}")).unwrap();
    let args = ["--config", path.to_str().unwrap()].map(str::to_owned).to_vec();
    AgentOptions { args, ..AgentOptions::default() }
}

/// A router that takes sessions of h1, and opens none.
fn router(lab: &Lab) -> (Host, Bird) {
    let router = lab.router().unwrap();
    let bird = router.bird_with(
        "router id 192.0.2.200; protocol device { }
         protocol bgp h1 { local 2001:db8::fe:1 as 65000; neighbor 2001:db8::1 as 65001; passive yes;
           ipv6 { import all; export none; }; }",
    );
    (router, bird.unwrap())
}

fn session(cluster: &Cluster, state: &str) {
    poll(&format!("the session is {state}"), 20 * SECONDS, || {
        let all = cluster.lab.cli_json(&["bgp", "--node", "h1"])?;
        anyhow::ensure!(all[0]["state"] == state, "{all}");
        anyhow::Ok(())
    });
}

fn status_has(cluster: &Cluster, words: &[&str]) {
    poll(&format!("status has {words:?}"), 20 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        if words.iter().all(|word| status.contains(word)) { Ok(()) } else { Err(status) }
    });
}

fn status_has_not(cluster: &Cluster, word: &str) {
    poll(&format!("status has no \"{word}\""), 60 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        if status.contains(word) { Err(status) } else { Ok(()) }
    });
}

/// A socket at an IPv6 port that leaves IPv4's alone, as other daemons have it.
fn taken(namespace: &Namespace, kind: SockType, port: u16) -> std::os::fd::OwnedFd {
    let take = || {
        let taken = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&taken, Ipv6V6Only, &true)?;
        let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0);
        bind(std::os::fd::AsRawFd::as_raw_fd(&taken), &SockaddrIn6::from(any))?;
        if kind == SockType::Stream {
            listen(&taken, Backlog::new(1)?)?;
        }
        nix::Result::Ok(taken)
    };
    namespace.enter(take).unwrap().unwrap()
}

#[test]
fn daemons_for_ipv4_share_the_ports() {
    let mut cluster = Cluster::without_agents("ipv4 ports", 2, GUIDE);
    let (_router, _bird) = router(&cluster.lab);
    let tcp = ["0.0.0.0:179", "0.0.0.0:7302"]
        .map(|at| cluster.hosts[0].enter(|| TcpListener::bind(at)).unwrap().unwrap());
    let udp = cluster.hosts[0].enter(|| UdpSocket::bind("0.0.0.0:3784")).unwrap().unwrap();
    let options = config(&cluster.lab, "h1.toml", "bfd = true");
    cluster.start_agent_with(0, options);
    cluster.start_agent(1);
    cluster.settle();
    session(&cluster, "established");
    ["listen-port", "UDP port", "--http"].iter().for_each(|words| status_has_not(&cluster, words));
    drop((tcp, udp));
}

#[test]
fn a_taken_port_costs_what_needs_it_is_reported_and_tried_again() {
    let mut cluster = Cluster::without_agents("taken ports", 2, GUIDE);
    let (router, _bird) = router(&cluster.lab);
    let host = cluster.hosts[0].clone();
    let bgp = taken(&host, SockType::Stream, 179);
    let bfd = taken(&host, SockType::Datagram, 3784);
    let http = host.enter(|| TcpListener::bind("[::1]:7302")).unwrap().unwrap();
    let options = config(&cluster.lab, "h1.toml", "bfd = true");
    cluster.start_agent_with(0, options);
    cluster.start_agent(1);
    cluster.settle();
    session(&cluster, "established");
    status_has(
        &cluster,
        &["listen-port 179", "still connects to its neighbours", "stop the other BGP daemon"],
    );
    status_has(&cluster, &["UDP port 3784", "BGP sessions go on", "remove bfd in agent.toml"]);
    status_has(&cluster, &["--http [::1]:7302", "stop the other process there"]);
    host.ip("-6 route flush proto 66").unwrap();
    cluster.expect_full_mesh();

    drop((bgp, bfd, http));
    ["listen-port", "UDP port", "--http"].iter().for_each(|words| status_has_not(&cluster, words));
    router.enter(|| TcpStream::connect("[2001:db8::1]:179")).unwrap().unwrap();
    assert_eq!(cluster.agents[0].http("/readyz").unwrap().0, 200);
    session(&cluster, "established");
}

#[test]
fn a_common_source_is_the_only_address_that_is_listened_at() {
    let mut cluster = Cluster::without_agents("narrow port", 1, GUIDE);
    let router = cluster.lab.router().unwrap();
    cluster.hosts[0].ip("address add 2001:db8::aa/64 dev eth0 nodad").unwrap();
    let options = config(&cluster.lab, "h1.toml", "source = \"2001:db8::aa\"\npassive = true");
    cluster.start_agent_with(0, options);
    cluster.settle();
    poll("the source takes connections", 10 * SECONDS, || {
        anyhow::Ok(router.enter(|| TcpStream::connect("[2001:db8::aa]:179"))??)
    });
    let other = router.enter(|| TcpStream::connect("[2001:db8::1]:179")).unwrap();
    assert_eq!(other.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_controller_without_its_probes_port_serves_agents_and_takes_the_port_once_it_is_free() {
    let lab = Lab::new("controller's ports").unwrap();
    let hosts = lab.hosts(1).unwrap();
    let http = taken(lab.switch(), SockType::Stream, 7301);
    let controller = lab.controller(ControllerOptions::default()).unwrap();
    poll("it is up", 10 * SECONDS, || lab.cli(&["status"])?.succeeded());
    lab.cli(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]).unwrap().succeeded().unwrap();
    let _agent = lab.agent(&hosts[0], AgentOptions::default()).unwrap();
    poll("the node is ready", 20 * SECONDS, || {
        let nodes = lab.cli_json(&["node", "list"])?;
        anyhow::ensure!(nodes[0]["state"] == "ready", "{nodes}");
        Ok(())
    });
    assert!(controller.process.log().contains("no metrics and probes"), "{}", controller.process.log());
    drop(http);
    controller.wait_ready(60 * SECONDS).unwrap();
}
