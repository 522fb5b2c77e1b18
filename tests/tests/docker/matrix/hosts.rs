//! Two hosts of one mode: the first one's engine has no firewall for IPv6, the other one's has. And a host outside.

use std::{net::IpAddr, path::PathBuf, thread};

use sextant_tests::{Docker, Host, cluster::Cluster, enter_at};

use super::{
    packets::{PUBLISH, Server},
    table::{Policy, Source},
};
use crate::{
    bed::{Bed, NETWORK},
    firewall::FIREWALL,
    setup_bed::SetupBed,
};

/// The arguments of the engines.
const ENGINES: [&[&str]; 2] = [&["--ip6tables=false"], &FIREWALL];
const IPAM: [&str; 2] = ["--docker-mode", "ipam"];

/// `[docker] mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Network,
    Daemon,
    Ipam,
    Pools,
}

/// A container, or the host outside.
pub struct Place {
    pub address: IpAddr,
    namespace: PathBuf,
    _server: Server,
}

/// The containers of a host: that which is asked, one beside it, and one on another network.
pub struct Containers {
    pub asked: Place,
    neighbour: Place,
    other_network: Option<Place>,
}

/// Hosts with engines. They end before the lab does.
enum Engines {
    Kept(Bed),
    SetUp(SetupBed),
}

pub struct Hosts {
    // Their namespaces are in use until they are dropped.
    pub containers: Vec<Containers>,
    pub outside: Place,
    mode: Mode,
    engines: Engines,
}

impl Place {
    /// Runs an action in its network namespace.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        enter_at(&self.namespace, action).unwrap()
    }
}

impl Mode {
    /// The networks of the containers, as arguments of `docker run`, and whether the last one is another one than the first.
    fn networks(self) -> [&'static [&'static str]; 2] {
        match self {
            Self::Network => [&["--network", "sextant"]; 2],
            Self::Daemon => [&[]; 2],
            Self::Ipam | Self::Pools => [&["--network", "one"], &["--network", "two"]],
        }
    }
}

impl Hosts {
    /// Starts the engines and the agents; none if the engine has no such mode.
    pub fn start(mode: Mode) -> Option<Self> {
        let test = format!("docker matrix {mode:?}").to_lowercase();
        let engines = match mode {
            Mode::Network => Engines::Kept(Bed::start_each(&test, &NETWORK, &ENGINES)),
            Mode::Ipam => {
                let bed = Bed::start_each(&test, &IPAM, &ENGINES);
                bed.engines.iter().for_each(|engine| engine.has_driver().unwrap());
                Engines::Kept(bed)
            }
            Mode::Daemon | Mode::Pools => Engines::SetUp(set_up(&test, mode)?),
        };
        let cluster = engines.cluster();
        let outside = outside(cluster);
        engines.make_networks(mode);
        Some(Self { containers: Vec::new(), outside, mode, engines })
    }

    /// Removes the containers, sets a policy, and starts containers again where the policy for the cluster has changed: the network
    /// that an agent keeps may depend on it.
    pub fn set(&mut self, policy: Policy, anew: bool) {
        if anew {
            self.containers.clear();
            for engine in self.engines.engines() {
                let _first_time = engine.run(&["rm", "-f", "web", "near", "far"]);
            }
        }
        self.engines.restart_agents(self.mode, &policy.flags());
        if anew {
            let start = |engine: &Docker| containers(engine, self.mode);
            self.containers = thread::scope(|scope| {
                let started: Vec<_> =
                    self.engines.engines().iter().map(|engine| scope.spawn(move || start(engine))).collect();
                started.into_iter().map(|it| it.join().unwrap()).collect()
            });
        }
    }

    /// Where packets to the container of this host come from.
    pub fn sources(&self, index: usize) -> impl Iterator<Item = (Source, &Place)> {
        let own = &self.containers[index];
        let other = own.other_network.iter().map(|place| (Source::OtherNetwork, place));
        let all = [
            (Source::Neighbour, &own.neighbour),
            (Source::Cluster, &self.containers[1 - index].asked),
            (Source::Outside, &self.outside),
        ];
        all.into_iter().chain(other)
    }

    /// The address of a host on the segment.
    pub fn address(&self, index: usize) -> IpAddr {
        self.engines.cluster().hosts[index].address().into()
    }

    /// Waits until `sextant status` finds nothing wrong with Docker.
    pub fn are_well(&self) {
        match &self.engines {
            Engines::Kept(bed) => bed.status_is_silent(),
            Engines::SetUp(bed) => bed.status_is_silent(),
        }
    }

    pub fn version(&self) -> String {
        self.engines.engines()[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap()
    }
}

impl Engines {
    fn engines(&self) -> &[Docker] {
        match self {
            Self::Kept(bed) => &bed.engines,
            Self::SetUp(bed) => &bed.engines,
        }
    }

    fn cluster(&self) -> &Cluster {
        match self {
            Self::Kept(bed) => &bed.cluster,
            Self::SetUp(bed) => &bed.cluster,
        }
    }

    fn make_networks(&self, mode: Mode) {
        let driver: &[&str] = match mode {
            Mode::Network | Mode::Daemon => return,
            Mode::Ipam => &["--ipam-driver", "sextant"],
            Mode::Pools => &[],
        };
        for (engine, name) in self.engines().iter().flat_map(|it| [(it, "one"), (it, "two")]) {
            engine.run(&[&["network", "create", "--ipv6"], driver, &[name]].concat()).unwrap();
        }
    }

    fn restart_agents(&mut self, mode: Mode, flags: &[&str]) {
        match self {
            Self::Kept(bed) if mode == Mode::Ipam => bed.restart_agents(&[&IPAM, flags].concat()),
            Self::Kept(bed) => {
                bed.restart_agents(&[&NETWORK, flags].concat());
                (0..2).for_each(|index| bed.has_network(index));
            }
            Self::SetUp(bed) => {
                (0..2).for_each(|index| bed.restart_agent_with(index, flags));
                bed.cluster.settle();
            }
        }
    }
}

/// Sets the engines up; none if they are too old for the mode.
fn set_up(test: &str, mode: Mode) -> Option<SetupBed> {
    let mut bed = SetupBed::start_each(test, &ENGINES);
    let version = bed.engines[0].run(&["version", "-f", "{{.Server.Version}}"]).unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    if mode == Mode::Pools && major < 27 {
        return None;
    }
    (0..2).for_each(|index| bed.set_up(index, if mode == Mode::Pools { "pools" } else { "daemon" }));
    Some(bed)
}

fn containers(engine: &Docker, mode: Mode) -> Containers {
    let [first, second] = mode.networks();
    let start = |name, args: &[&str]| container(engine, name, args);
    Containers {
        asked: start("web", &[first, &PUBLISH].concat()),
        neighbour: start("near", first),
        other_network: (first != second).then(|| start("far", second)),
    }
}

fn container(engine: &Docker, name: &str, args: &[&str]) -> Place {
    let address = engine.container(name, args).unwrap().parse().unwrap();
    let namespace = engine.namespace_of(name).unwrap();
    let server = enter_at(&namespace, Server::start).unwrap();
    Place { address, namespace, _server: server }
}

/// The IPv4 addresses of the hosts on the segment: Docker's NAT serves IPv4.
pub fn ipv4(number: usize) -> IpAddr {
    format!("192.0.2.{}", number + 1).parse().unwrap()
}

/// The number of the host outside among these.
pub const OUTSIDE: usize = 2;

/// A host outside of the pools that has routes to both hosts' prefixes.
fn outside(cluster: &Cluster) -> Place {
    let outside = cluster.lab.host("outside").unwrap();
    for host in &cluster.hosts {
        let route = format!("-6 route add {} via {}", cluster.prefix(host.name()), host.address());
        outside.ip(&route).unwrap();
    }
    let hosts: Vec<&Host> = cluster.hosts.iter().chain([&outside]).collect();
    for (number, host) in hosts.into_iter().enumerate() {
        host.ip(&format!("address add {}/24 dev eth0", ipv4(number))).unwrap();
    }
    let server = outside.enter(Server::start).unwrap();
    Place { address: outside.address().into(), namespace: outside.path(), _server: server }
}
