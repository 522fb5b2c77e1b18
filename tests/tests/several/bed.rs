//! A cluster with the pools "main" and "ula", and agents that claim a prefix of each.

use std::collections::BTreeMap;

use serde_json::Value;
use sextant_proto::Prefix;
use sextant_tests::{
    AgentOptions, Container, MILLISECONDS, SECONDS, UdpStream,
    cluster::{Cluster, GUIDE, PoolArgs, UNREACHABLE_METRIC, sorted},
    expect_text, poll,
};

/// The second pool.
pub const ULA: PoolArgs = PoolArgs { prefix: "fd00:5e00::/40", host_len: "64", container_len: "80" };

/// The host prefix of each node in each pool.
pub type Held = BTreeMap<String, BTreeMap<String, Prefix>>;

/// The cluster.
pub struct Bed {
    pub cluster: Cluster,
}

/// The options of an agent with these pools, e.g. "main,ula".
pub fn pools(names: &str) -> AgentOptions {
    AgentOptions { args: vec!["--pool".into(), names.into()], ..AgentOptions::default() }
}

impl Bed {
    /// Starts a cluster in which each node holds a prefix of both pools, and all routes are in all kernels.
    pub fn start(test: &str, hosts: u16) -> Self {
        let bed = Self::prepared(test, hosts, |cluster| cluster.add_another_pool("ula", ULA));
        bed.settle();
        bed
    }

    /// Starts a cluster with the pool "main" and what `prepare` does before the agents start.
    pub fn prepared(test: &str, hosts: u16, prepare: impl FnOnce(&Cluster)) -> Self {
        let mut cluster = Cluster::without_agents(test, hosts, GUIDE);
        prepare(&cluster);
        for index in 0..cluster.hosts.len() {
            cluster.start_agent_with(index, pools("main,ula"));
        }
        Self { cluster }
    }

    /// Waits until each node is ready for a prefix of each pool, and all of it is in all kernels.
    pub fn settle(&self) {
        let names: Vec<_> = self.cluster.hosts.iter().map(|host| host.name().to_owned()).collect();
        poll("each node is ready in both pools", 30 * SECONDS, || {
            let not_ready: Vec<_> =
                names.iter().filter(|name| self.pools_of(name, "ready") != ["main", "ula"]).collect();
            if not_ready.is_empty() { Ok(()) } else { Err(format!("not ready: {not_ready:?}")) }
        });
        self.cluster.sextant(&["wait", "--timeout", "20s"]);
    }

    /// The pools in which a node with a connected agent has a claim of this state, the primary one first.
    pub fn pools_of(&self, name: &str, state: &str) -> Vec<String> {
        let node = self.cluster.node(name);
        let claims = claims(&node).filter(|claim| claim["claim_state"] == state && node["connected"] == true);
        claims.map(|claim| text(&claim["pool"])).collect()
    }

    /// Waits until a node is ready for claims in these pools only.
    pub fn wait_pools(&self, name: &str, pools: &[&str]) {
        expect_text(&format!("pools of {name}"), 20 * SECONDS, &pools.join("\n"), || {
            anyhow::Ok(self.pools_of(name, "ready").join("\n"))
        });
    }

    /// The prefixes of all nodes, by the store.
    pub fn held(&self) -> Held {
        let nodes = self.cluster.lab.cli_json(&["node", "list"]).unwrap();
        let of = |node: &Value| {
            claims(node)
                .map(|claim| (text(&claim["pool"]), text(&claim["host_prefix"]).parse().unwrap()))
                .collect()
        };
        nodes.as_array().unwrap().iter().map(|node| (text(&node["name"]), of(node))).collect()
    }

    /// A node's prefix in a pool.
    pub fn prefix(&self, name: &str, pool: &str) -> Prefix {
        self.held()[name][pool]
    }

    /// Waits until the routes of protocol 66 of each host are those to what the others hold, and no other.
    pub fn expect_routes(&self, held: &Held) {
        self.cluster.hosts.iter().for_each(|host| self.expect_routes_of(host.name(), held));
    }

    /// As [`Bed::expect_routes`], of one host.
    pub fn expect_routes_of(&self, name: &str, held: &Held) {
        let host = self.cluster.hosts.iter().find(|host| host.name() == name).unwrap();
        let expected = self.expected_routes(name, held).join("\n");
        expect_text(&format!("routes of {name}"), 10 * SECONDS, &expected, || {
            host.routes_of(66).map(|routes| sorted(routes).join("\n"))
        });
    }

    fn expected_routes(&self, name: &str, held: &Held) -> Vec<String> {
        let unreachable = |prefix: &str| format!("unreachable {prefix} proto 66 metric {UNREACHABLE_METRIC}");
        let mut routes = vec![unreachable(GUIDE.prefix), unreachable(ULA.prefix)];
        for host in &self.cluster.hosts {
            let prefixes = held.get(host.name()).into_iter().flat_map(BTreeMap::values);
            routes.extend(prefixes.map(|prefix| match host.name() == name {
                true => unreachable(&prefix.to_string()),
                false => format!("{prefix} via {} dev eth0 proto 66 metric 512", host.address()),
            }));
        }
        sorted(routes)
    }

    /// Starts a container on host `index` with an address in each of its prefixes; returns it with that of main, and with that
    /// of ula.
    pub fn container(&self, index: usize, name: &str) -> (Container, Container) {
        let host = &self.cluster.hosts[index];
        let prefix = |pool| self.prefix(host.name(), pool);
        let main = host.container_in(name, prefix("main")).unwrap();
        let ula = host.also_in(&main, prefix("ula")).unwrap();
        (main, ula)
    }

    /// Starts streams between containers of hosts 1 and 2, and of 1 and 3: in each of the pools.
    pub fn streams(&self) -> Streams {
        let containers: Vec<_> = (0..3).map(|index| self.container(index, "s")).collect();
        let mut streams = Vec::new();
        for peer in 1..3 {
            let (near, far) = (&containers[0], &containers[peer]);
            for (pool, from, to) in [("main", &near.0, &far.0), ("ula", &near.1, &far.1)] {
                poll("the path of the stream", 10 * SECONDS, || from.ping(to.address())?.replied());
                let stream = from.udp_stream(to, 10 * MILLISECONDS).unwrap();
                streams.push((format!("{pool} h1 h{}", peer + 1), stream));
            }
        }
        Streams(streams)
    }
}

/// Running streams, each with its name: "main h1 h2", "ula h1 h2", "main h1 h3" and "ula h1 h3".
pub struct Streams(Vec<(String, UdpStream)>);

impl Streams {
    /// Takes one out.
    pub fn take(&mut self, name: &str) -> UdpStream {
        let at = self.0.iter().position(|(other, _)| other == name).unwrap();
        self.0.remove(at).1
    }

    /// Lets some datagrams of each return, and ends them; none may be lost.
    pub fn nothing_lost(self) {
        for (name, stream) in self.0 {
            stream.flows(50, 10 * SECONDS).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            stream.finish().unwrap().nothing_lost().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
}

/// The claims of a node in JSON.
pub fn claims(node: &Value) -> impl Iterator<Item = &Value> {
    node["claims"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
