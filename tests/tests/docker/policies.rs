//! What packets to containers reach: each policy with and without a firewall of the engine, and whatever its version.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    thread,
};

use sextant_tests::{Docker, Host, SECONDS, expect_text, poll};

use crate::bed::Bed;

/// A port that is published, and one that is not; by TCP and UDP each.
const PORTS: [u16; 2] = [8000, 8001];

/// What a packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Tcp(u16),
    Udp(u16),
    Echo,
}

impl Ask {
    fn all() -> impl Iterator<Item = Self> {
        PORTS.into_iter().flat_map(|port| [Self::Tcp(port), Self::Udp(port)]).chain([Self::Echo])
    }

    fn is_published(self) -> bool {
        matches!(self, Self::Echo | Self::Tcp(8000) | Self::Udp(8000))
    }

    /// Whether `address` answers to who asks from the namespace of the calling thread.
    fn is_answered(self, address: &str) -> bool {
        let at = |port| SocketAddr::new(address.parse().unwrap(), port);
        match self {
            Self::Tcp(port) => TcpStream::connect_timeout(&at(port), SECONDS).is_ok(),
            Self::Udp(port) => {
                let socket = UdpSocket::bind("[::]:0").unwrap();
                socket.set_read_timeout(Some(SECONDS)).unwrap();
                socket.send_to(b"hello", at(port)).is_ok() && socket.recv(&mut [0; 9]).is_ok()
            }
            Self::Echo => {
                let ping = Command::new("ping").args(["-c", "1", "-W", "1", address]).output();
                ping.unwrap().status.success()
            }
        }
    }
}

/// Answers datagrams at this port of the calling thread's namespace, until no datagram has come for a minute.
fn serve_datagrams(port: u16) {
    let socket = UdpSocket::bind(("::", port)).unwrap();
    socket.set_read_timeout(Some(60 * SECONDS)).unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 9];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            // Who asked may be gone.
            let _gone = socket.send_to(&datagram[..length], from);
        }
    });
}

/// Hosts whose containers serve, and one outside of the cluster that has routes to their prefixes.
struct Stage {
    bed: Bed,
    outside: Host,
    addresses: Vec<String>,
}

impl Stage {
    fn start(test: &str, engine: &[&str]) -> Self {
        let bed = Bed::start_with(test, 2, &[], engine);
        let outside = bed.cluster.lab.host("outside").unwrap();
        for (index, host) in bed.cluster.hosts.iter().enumerate() {
            let (prefix, router) = (bed.container_prefix(index), host.address());
            outside.ip(&format!("-6 route add {prefix} via {router}")).unwrap();
        }
        Self { bed, outside, addresses: Vec::new() }
    }

    fn set(&mut self, from_cluster: &str, from_outside: &str) {
        let policies = ["--docker-from-cluster", from_cluster, "--docker-from-outside", from_outside];
        for engine in &self.bed.engines {
            let _first_time = engine.run(&["rm", "-f", "web"]);
        }
        self.bed.restart_agents(&policies);
        (0..2).for_each(|index| self.bed.has_network(index));
        self.bed.status_is_silent();
        let publish = ["--network", "sextant", "-p", "8000:8000", "-p", "8000:8000/udp"];
        let serves = |engine: &Docker| {
            let address = engine.container("web", &publish).unwrap();
            for port in PORTS {
                engine.serve("web", port).unwrap();
                engine.enter("web", || serve_datagrams(port)).unwrap();
            }
            address
        };
        self.addresses = self.bed.engines.iter().map(serves).collect();
    }

    /// Whether the container of the second host answers to the one of the first.
    fn inside(&self, ask: Ask) -> bool {
        self.bed.engines[0].enter("web", || ask.is_answered(&self.addresses[1])).unwrap()
    }

    /// The same for the host outside.
    fn outside(&self, ask: Ask) -> bool {
        self.outside.enter(|| ask.is_answered(&self.addresses[1])).unwrap()
    }

    fn expect(&self, what: &str, answers: bool, is_answered: impl Fn() -> bool) {
        if answers {
            poll(what, 10 * SECONDS, || if is_answered() { Ok(()) } else { Err("no answer") });
        } else {
            assert!(!is_answered(), "{what}: it is answered");
        }
    }

    fn check(&self, from_cluster: &str, from_outside: &str) {
        let allows = |policy: &str, ask: Ask| match policy {
            "open" => true,
            "published" => ask.is_published(),
            _ => false,
        };
        // What is answered comes first, so that the engine has seen all its events then.
        let mut all: Vec<_> = Ask::all().collect();
        all.sort_by_key(|ask| !ask.is_published());
        for ask in all {
            let what = format!("{ask:?} with {from_cluster}, {from_outside}");
            self.expect(&format!("inside: {what}"), allows(from_cluster, ask), || self.inside(ask));
            self.expect(&format!("outside: {what}"), allows(from_outside, ask), || self.outside(ask));
        }
        // Its own address is the source; and it reaches what is outside, whatever comes in.
        expect_text("the source", 10 * SECONDS, &self.addresses[0], || {
            self.bed.engines[0].ask("web", &self.addresses[1], PORTS[0])
        });
        self.bed.pings(1, "web", &self.outside.address().to_string());
    }
}

fn all_policies(test: &str, engine: &[&str]) {
    let mut stage = Stage::start(test, engine);
    for from_cluster in ["open", "published"] {
        for from_outside in ["published", "open", "closed"] {
            stage.set(from_cluster, from_outside);
            stage.check(from_cluster, from_outside);
        }
    }
}

#[test]
fn each_policy_with_an_engine_that_has_a_firewall() {
    all_policies("docker policies, firewall", &["--experimental", "--ip6tables"]);
}

#[test]
fn each_policy_with_an_engine_that_has_none() {
    all_policies("docker policies", &["--ip6tables=false"]);
}
