//! One link in two roles, and prefixes of containers on links of the host.

use sextant_tests::{
    AgentOptions, BRIDGE, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::kept::expect_status;

#[test]
fn one_link_in_two_roles_is_refused_with_the_reason() {
    let mut cluster = Cluster::without_agents("two roles", 2, GUIDE);
    for (uplink, args, reason) in [
        ("eth0", &["--bridge", "eth0"][..], "bridge \"eth0\" is also an uplink"),
        ("eth0", &["--bridge", "lo"], "bridge \"lo\" is the loopback interface; set [bridge] interface"),
    ] {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let options = AgentOptions { args, uplink: uplink.into(), ..AgentOptions::default() };
        let agent = cluster.lab.agent(&cluster.hosts[0], options).unwrap();
        let ended = agent.process.wait(10 * SECONDS).unwrap();
        let log = agent.process.log();
        assert!(!ended.success() && log.contains(reason), "{ended}: {log}");
    }
    // On a running host: somebody makes the uplink a port of the containers' bridge.
    cluster.start_agent(0);
    cluster.settle();
    let host = cluster.hosts[0].clone();
    host.ip(&format!("link set eth0 master {BRIDGE}")).unwrap();
    let readyz = |code: u16, words: &str| {
        poll(&format!("/readyz {code}"), 20 * SECONDS, || match cluster.agents[0].http("/readyz")? {
            (now, body) if now == code && body.contains(words) => anyhow::Ok(()),
            other => anyhow::bail!("{other:?}"),
        });
    };
    readyz(503, "uplink \"eth0\" is a port of bridge");
    // The fix that is shown.
    host.ip("link set eth0 nomaster").unwrap();
    readyz(200, "");
}

/// Docker gives its bridge the whole host prefix: its connected route is no conflict. What status says of other routes takes nothing
/// from containers when it is followed.
#[test]
fn status_proposes_nothing_that_cuts_containers_off() {
    let cluster = Cluster::start("advice", 2, GUIDE);
    let (host, own, far) = (&cluster.hosts[0], cluster.prefix("h1"), cluster.prefix("h2"));
    let second = format!("{}2", own.first_host().to_string().trim_end_matches('1'));
    host.ip(&format!("-6 address add {second}/64 dev {BRIDGE} nodad")).unwrap();
    let container = host.container("c").unwrap();
    poll("the container is reached", 10 * SECONDS, || container.ping(second.parse()?)?.replied());
    // An old bridge whose prefix is another node's now.
    host.ip("link add br-old type bridge").unwrap();
    host.ip("link set br-old up").unwrap();
    host.ip(&format!("-6 address add {}/64 dev br-old nodad", far.first_host())).unwrap();
    let text = expect_status(&cluster, &format!("conflict with {far} proto kernel"));
    assert!(!text.contains(&format!("conflict with {own}")) && !text.contains("route del"), "{text}");
    let before = host.foreign_routes().unwrap();
    let command = text.split_once("see on that host: ").unwrap().1.split(';').next().unwrap();
    let shown = host.check(&command.split(' ').collect::<Vec<_>>()).unwrap();
    assert!(shown.contains("dev br-old proto kernel"), "{shown}");
    assert_eq!(host.foreign_routes().unwrap(), before);
    container.ping(second.parse().unwrap()).unwrap().replied().unwrap();
}
