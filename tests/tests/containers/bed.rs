//! Hosts whose agents make the bridge of docs/containers.md.

use std::net::Ipv6Addr;

use sextant_proto::Prefix;
use sextant_tests::{
    AgentOptions, Container, Host, Namespace, SECONDS,
    cluster::{Cluster, GUIDE, PoolArgs},
    poll,
};

/// The bridge. An engine of Docker without a default bridge deletes a docker0 that it finds.
pub const OWN: &str = "sextant0";

/// The options of an agent that makes the bridge.
pub fn options(more: &[&str]) -> AgentOptions {
    let args = more.iter().map(|arg| (*arg).to_owned()).collect();
    AgentOptions { bridge: OWN.to_owned(), args, ..AgentOptions::default() }
}

/// The container prefix of a host.
pub fn container_prefix(host: &Host) -> Prefix {
    let (gateway, len) = host.address_of(OWN).unwrap();
    Prefix::containing(gateway, len).unwrap()
}

/// Hosts with agents that make the bridge.
pub fn cluster(test: &str, hosts: u16, pool: PoolArgs, agent: &[&str]) -> Cluster {
    let mut cluster = Cluster::without_agents(test, hosts, pool);
    for host in 0..cluster.hosts.len() {
        cluster.start_agent_with(host, options(agent));
    }
    cluster.settle();
    cluster
}

/// A cluster of two hosts, with a container on the second one that is reached, and reaches.
pub struct Bed {
    pub cluster: Cluster,
    pub prefix: Prefix,
    peer: Container,
}

impl Bed {
    pub fn start(test: &str) -> Self {
        let mut cluster = Cluster::without_agents(test, 2, GUIDE);
        cluster.start_agent_with(0, options(&[]));
        cluster.start_agent(1);
        cluster.settle();
        let peer = cluster.hosts[1].container("peer").unwrap();
        let prefix = container_prefix(&cluster.hosts[0]);
        Self { cluster, prefix, peer }
    }

    pub fn host(&self) -> &Host {
        &self.cluster.hosts[0]
    }

    /// A name for files and cgroups, by which the lab's reaper finds them.
    pub fn unique(&self, name: &str) -> String {
        format!("{}-{name}", Namespace::name(self.host()))
    }

    /// Waits until the address of the page's examples is reached from the other host.
    pub fn is_reached(&self) {
        let address = Ipv6Addr::from_bits(self.prefix.addr().to_bits() + 0x9a);
        poll("the container is reached from another host's", 20 * SECONDS, || {
            self.peer.ping(address)?.replied()
        });
    }
}
