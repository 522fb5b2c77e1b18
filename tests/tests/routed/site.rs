//! Two segments and the router between them.

use sextant_tests::{
    Agent, AgentOptions, Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// h1 and h2 on the first segment, h3 on the second; a plain Linux router joins both, and is the default route of all.
pub struct Site {
    pub cluster: Cluster,
    pub router: Host,
}

/// Agents' arguments, as a test writes them.
pub fn options(args: &[&str]) -> AgentOptions {
    AgentOptions { args: args.iter().map(|&arg| arg.to_owned()).collect(), ..AgentOptions::default() }
}

impl Site {
    /// A controller that holds agents for gone after a second, hosts, and no agent yet.
    pub fn new(test: &str) -> Self {
        let mut cluster = Cluster::with_short_down_after(test, 2, GUIDE);
        let router = cluster.lab.router().unwrap();
        let far = cluster.lab.second_segment(&router).unwrap().host("h3", 3).unwrap();
        for host in &cluster.hosts {
            host.default_route_via(router.address()).unwrap();
        }
        cluster.hosts.push(far);
        Self { cluster, router }
    }

    /// Starts the agent of host `index`, which leaves to the router what it has no direct route to.
    pub fn start_host(&mut self, index: usize, args: &[&str]) {
        let options = options(&[&["--topology", "routed"], args].concat());
        let agent = self.cluster.lab.agent(&self.cluster.hosts[index], options).unwrap();
        self.cluster.agents.push(agent);
    }

    /// Starts an agent on the router.
    pub fn start_router(&self) -> Agent {
        let agent = self.cluster.lab.agent(&self.router, options(&["--role", "router", "--uplink", "eth1"]));
        let agent = agent.unwrap();
        agent.wait_ready(20 * SECONDS).unwrap();
        agent
    }

    /// Waits until a node is in this state.
    pub fn becomes(&self, node: &str, state: &str) {
        poll(&format!("{node} is {state}"), 20 * SECONDS, || {
            let node = self.cluster.node(node);
            if node["state"] == state { Ok(()) } else { Err(node.to_string()) }
        });
    }
}
