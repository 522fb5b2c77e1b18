//! Controllers and etcd members, each on its own host, and their random faults.

use std::{thread, time::Duration};

use rand::{Rng, rngs::StdRng};

use crate::{
    Controller, ControllerOptions, Etcd, Host, Lab, MILLISECONDS, Process,
    lab::{clock::wrong_clock, poll::try_poll},
};

/// The controllers' numbers. The first one's address is the switch's own.
pub(super) const CONTROLLERS: [u16; 3] = [2, 3, 4];
/// How many etcd members there are.
const MEMBERS: usize = 3;
/// How long a start may take.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The controllers' log level: low, so that a long run does not fill the disk.
const LOG: &str = "info";

/// The servers.
pub struct Servers<'a> {
    controllers: Vec<Controller>,
    controller_hosts: Vec<Host>,
    etcd: Etcd,
    member_hosts: Vec<Host>,
    lab: &'a Lab,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Controller(usize),
    Member(usize),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is killed and restarted.
    Kill,
    /// The same; a controller then has a wall clock that is this many seconds ahead until its next restart.
    Clock(i64),
    /// It is frozen with open connections.
    Freeze,
    /// Its host is isolated.
    Isolate,
    /// A member cannot reach the other members, but the controllers. A controller is isolated.
    Partition,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Isolate,
    Fault::Partition,
    Fault::Clock(63_072_000),
    Fault::Clock(-86_400),
];

impl<'a> Servers<'a> {
    /// Starts all of them.
    ///
    /// # Errors
    /// If they are not ready in time.
    pub fn start(lab: &'a Lab) -> anyhow::Result<Self> {
        let hosts = |kind: &str, count: usize| {
            (1..=count).map(|number| lab.host(&format!("{kind}{number}"))).collect::<anyhow::Result<Vec<_>>>()
        };
        let member_hosts = hosts("m", MEMBERS)?;
        let controller_hosts = hosts("c", CONTROLLERS.len())?;
        let etcd = lab.etcd_on(&member_hosts, &[])?;
        let mut servers = Self { controllers: Vec::new(), controller_hosts, etcd, member_hosts, lab };
        for index in 0..CONTROLLERS.len() {
            let controller = servers.controller(index, Vec::new())?;
            servers.controllers.push(controller);
        }
        servers.ready()?;
        Ok(servers)
    }

    /// The controllers' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.controllers.iter().map(Controller::url).collect()
    }

    /// The members' URLs.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Injects faults into one or two of them for some time; returns their number and a description.
    ///
    /// # Errors
    /// If the lab fails.
    pub fn harm(&mut self, random: &mut StdRng) -> anyhow::Result<(usize, String)> {
        let mut victims = vec![(Server::random(random), Fault::random(random))];
        let second = (Server::random(random), Fault::random(random));
        if random.random_bool(0.4) && second.0 != victims[0].0 {
            victims.push(second);
        }
        let (harm, calm) = (random.random_range(200..3000) * MILLISECONDS, random.random_range(100..1500));
        victims.iter().try_for_each(|(server, fault)| self.inflict(*server, *fault))?;
        thread::sleep(harm);
        victims.iter().try_for_each(|(server, fault)| self.recover(*server, *fault))?;
        thread::sleep(calm * MILLISECONDS);
        Ok((victims.len(), format!("{victims:?} for {harm:?}")))
    }

    /// Waits until all take requests.
    ///
    /// # Errors
    /// If one does not in time.
    pub fn ready(&self) -> anyhow::Result<()> {
        self.controllers.iter().try_for_each(|controller| controller.wait_ready(TIMEOUT))?;
        try_poll(TIMEOUT, || self.etcd.etcdctl(self.lab, &["endpoint", "health", "--cluster"])).map(drop)
    }

    fn inflict(&self, server: Server, fault: Fault) -> anyhow::Result<()> {
        match (fault, server) {
            (Fault::Kill | Fault::Clock(_), _) => self.process(server).kill(),
            (Fault::Freeze, _) => self.process(server).freeze(),
            (Fault::Partition, Server::Member(_)) => self.host(server).check(&["nft", PARTITION]).map(drop),
            (Fault::Isolate | Fault::Partition, _) => self.host(server).isolate(),
        }
    }

    fn recover(&mut self, server: Server, fault: Fault) -> anyhow::Result<()> {
        match (fault, server) {
            (Fault::Kill | Fault::Clock(_), Server::Controller(index)) => {
                let environment = match fault {
                    Fault::Clock(ahead) => wrong_clock(ahead),
                    _ => Vec::new(),
                };
                self.controllers[index] = self.controller(index, environment)?;
                Ok(())
            }
            (Fault::Kill | Fault::Clock(_), Server::Member(member)) => {
                self.etcd.start_member(self.lab, member)
            }
            (Fault::Freeze, _) => self.process(server).thaw(),
            (Fault::Partition, Server::Member(_)) => {
                self.host(server).check(&["nft", "delete table ip6 apart"]).map(drop)
            }
            (Fault::Isolate | Fault::Partition, _) => self.host(server).reconnect(),
        }
    }

    fn controller(&self, index: usize, environment: Vec<(String, String)>) -> anyhow::Result<Controller> {
        let (number, host) = (CONTROLLERS[index], Some(self.controller_hosts[index].clone()));
        // Sessions of nodes that have left end soon, and a new store takes claims at once.
        let args = ["--down-after", "2", "--recovery-window", "0"].map(str::to_owned).to_vec();
        let (store, log) = (Some(self.etcd.store()), LOG.to_owned());
        self.lab.controller(ControllerOptions {
            number,
            host,
            store,
            log,
            args,
            environment,
            ..Default::default()
        })
    }

    fn process(&self, server: Server) -> &Process {
        match server {
            Server::Controller(index) => &self.controllers[index].process,
            Server::Member(member) => self.etcd.member(member),
        }
    }

    fn host(&self, server: Server) -> &Host {
        match server {
            Server::Controller(index) => &self.controller_hosts[index],
            Server::Member(member) => &self.member_hosts[member],
        }
    }
}

/// Drops the traffic between members.
const PARTITION: &str = "table ip6 apart {
    chain in { type filter hook input priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
    chain out { type filter hook output priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
}";

impl Server {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..MEMBERS + CONTROLLERS.len()) {
            member if member < MEMBERS => Self::Member(member),
            other => Self::Controller(other - MEMBERS),
        }
    }
}

impl Fault {
    fn random(random: &mut StdRng) -> Self {
        FAULTS[random.random_range(0..FAULTS.len())]
    }
}
