//! Hosts on two switches.

use sextant_tests::{
    AgentOptions, Container, Host, MILLISECONDS, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// A second uplink `eth1` of each host, `2001:db8:0:1::N/64`, on the switch `br1`.
fn on_two_switches(test: &str, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::without_agents(test, 3, GUIDE);
    let switch = cluster.lab.switch();
    switch.ip_batch("link add br1 type bridge mcast_snooping 0\nlink set br1 up").unwrap();
    for (index, host) in cluster.hosts.iter().enumerate() {
        let (n, target) = (index + 1, std::ops::Deref::deref(host).name());
        switch.ip(&format!("link add q{n} type veth peer name eth1 netns {target}")).unwrap();
        switch.ip(&format!("link set q{n} master br1 up")).unwrap();
        host.ip(&format!("-6 address add 2001:db8:0:1::{n}/64 dev eth1 nodad")).unwrap();
        host.ip("link set eth1 up").unwrap();
    }
    let args: Vec<_> = ["--uplink", "eth1"].iter().chain(more).map(|word| (*word).to_owned()).collect();
    for host in &cluster.hosts {
        let options = AgentOptions { args: args.clone(), ..AgentOptions::default() };
        cluster.agents.push(cluster.lab.agent(host, options).unwrap());
    }
    cluster.settle();
    cluster
}

/// Waits until the first host's route to the second one has these next hops.
fn leads_through(cluster: &Cluster, hops: &str, deadline: std::time::Duration) {
    let expected = format!("{} {hops} proto 66 metric 512", cluster.prefix("h2"));
    poll(&expected, deadline, || {
        let routes = cluster.hosts[0].routes_of(66)?;
        anyhow::ensure!(routes.contains(&expected), "{routes:#?}");
        anyhow::Ok(())
    });
}

const FIRST: &str = "via 2001:db8::2 dev eth0";
const SECOND: &str = "via 2001:db8:0:1::2 dev eth1";
const BOTH: &str = "nexthop via 2001:db8::2 dev eth0 nexthop via 2001:db8:0:1::2 dev eth1";

fn containers(hosts: &[Host]) -> (Container, Container) {
    let (near, far) = (hosts[0].container("a").unwrap(), hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
    (near, far)
}

/// The peer is isolated one switch without anybody's link going down: neighbours tell.
#[test]
fn the_first_working_uplink_is_used() {
    let cluster = on_two_switches("two uplinks", &[]);
    leads_through(&cluster, FIRST, 10 * SECONDS);
    let (near, far) = containers(&cluster.hosts);
    let switch = cluster.lab.switch();
    switch.ip("link set p2 nomaster").unwrap();
    leads_through(&cluster, SECOND, 40 * SECONDS);
    poll("the peer goes over to it too", 40 * SECONDS, || near.ping(far.address())?.replied());
    switch.ip("link set p2 master br0").unwrap();
    leads_through(&cluster, FIRST, 30 * SECONDS);
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// Carrier of either side, and neighbour discovery without a change of carrier.
#[test]
fn traffic_is_balanced_over_all_working_uplinks() {
    let cluster = on_two_switches("balanced", &["--uplink-balance"]);
    leads_through(&cluster, BOTH, 10 * SECONDS);
    let (near, far) = containers(&cluster.hosts);
    let switch = cluster.lab.switch();
    // The host's own carrier: at once.
    switch.ip("link set q1 down").unwrap();
    leads_through(&cluster, FIRST, 2 * SECONDS);
    switch.ip("link set q1 up").unwrap();
    leads_through(&cluster, BOTH, 10 * SECONDS);
    // The peer's carrier: the peer announces it.
    switch.ip("link set q2 down").unwrap();
    leads_through(&cluster, FIRST, 5 * SECONDS);
    switch.ip("link set q2 up").unwrap();
    leads_through(&cluster, BOTH, 10 * SECONDS);
    // No carrier changes: neighbour discovery detects the fault.
    switch.ip("link set q2 nomaster").unwrap();
    leads_through(&cluster, FIRST, 40 * SECONDS);
    let stream = near.udp_stream(&far, 5 * MILLISECONDS).unwrap();
    poll("the peer uses the first one only too", 40 * SECONDS, || {
        let (sent, received) = stream.progress();
        std::thread::sleep(200 * MILLISECONDS);
        let (sent_now, received_now) = stream.progress();
        let flows = received_now > received && received_now - received + 5 >= sent_now - sent;
        if flows { Ok(()) } else { Err(format!("{} of {}", received_now - received, sent_now - sent)) }
    });
    switch.ip("link set q2 master br1").unwrap();
    leads_through(&cluster, BOTH, 30 * SECONDS);
}
