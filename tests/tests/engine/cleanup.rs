//! `sextant-agent cleanup`.

use sextant_tests::{
    AgentOptions, BRIDGE, SECONDS, bin,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::testbed::{Testbed, text};

#[test]
fn i4_cleanup_restores_the_host_and_reports_each_step() {
    let mut testbed = Testbed::start("cleanup", 2);
    let host = testbed.host();
    // Routes of other protocols, in several tables.
    host.ip("-6 route add 2001:db8:77::/48 via 2001:db8::2 dev eth0 proto static").unwrap();
    host.ip("-6 route add unreachable 2001:db8:78::/48 proto static table 99").unwrap();
    let running = testbed.cleanup(&[]);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    assert!(text(&running).contains("stop it first"), "{running:?}");
    testbed.cluster.expect_routes(0, &[0, 1]);

    let planned = text(&testbed.cleanup(&["--dry-run"]));
    assert!(planned.starts_with("would be undone:\n"), "{planned}");
    testbed.cluster.expect_routes(0, &[0, 1]);

    let agent = testbed.cluster.agents.remove(0);
    agent.process.kill().unwrap();
    // A route that an agent with other settings left in another table.
    testbed.host().ip("-6 route add 2001:db8:79::/48 via 2001:db8::2 dev eth0 proto 66 table 77").unwrap();
    let container = testbed.host().container("c").unwrap();
    let busy = testbed.cleanup(&[]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    assert!(
        text(&busy).contains("bridge docker0 kept: ve1 are connected to it; stop the containers"),
        "{busy:?}"
    );
    container.ip("link delete eth0").unwrap();

    let done = testbed.cleanup(&[]);
    assert_eq!(text(&done), "bridge docker0 deleted\n");
    let done = text(&busy);
    for line in planned.lines().skip(1).filter(|line| !line.starts_with("bridge")) {
        assert!(done.lines().any(|printed| printed == line), "{line} was planned; done was\n{done}");
    }
    for printed in [
        "table 77 removed",
        "address ",
        "net/ipv6/conf/all/forwarding: 1 back to 0",
        "accept_ra: 2 back to 1",
    ] {
        assert!(done.contains(printed), "no \"{printed}\" in\n{done}");
    }
    assert_eq!(text(&testbed.cleanup(&[])), "nothing to undo\n");
    let foreign = testbed.host().foreign_routes().unwrap().join("\n");
    assert!(foreign.contains("2001:db8:77::/48 ") && foreign.contains("2001:db8:78::/48 "), "{foreign}");
    testbed.host().ip("-6 route del 2001:db8:77::/48").unwrap();
    testbed.host().ip("-6 route del unreachable 2001:db8:78::/48 table 99").unwrap();
    testbed.is_restored();
}

#[test]
fn cleanup_restores_forwarding_that_was_set_on_an_interface() {
    let mut testbed = Testbed::start("own forwarding", 1);
    let agent = testbed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    testbed.cleanup(&[]);
    let own = "net/ipv6/conf/eth0/forwarding";
    testbed.host().sysctl(own, "1").unwrap();
    testbed.cluster.start_agent(0);
    testbed.cluster.settle();
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let done = testbed.cleanup(&[]);
    assert!(done.status.success(), "{done:?}");
    poll("eth0 forwards, and nothing else does", SECONDS, || {
        let own = testbed.host().check(&["cat", &format!("/proc/sys/{own}")])?;
        let all = testbed.host().check(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"])?;
        anyhow::ensure!((own.trim(), all.trim()) == ("1", "0"), "{own} {all}");
        anyhow::Ok(())
    });
}

/// A container engine has come to use the bridge after the agent's start, and another one has a bridge of its own.
#[test]
fn i4_cleanup_takes_nothing_that_containers_of_others_use() {
    let mut cluster = Cluster::without_agents("used by others", 2, GUIDE);
    let (host, other) = (cluster.hosts[0].clone(), cluster.hosts[1].clone());
    // A bridge that is down, as an engine leaves it.
    host.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:01 type bridge")).unwrap();
    cluster.start_agent_with(0, AgentOptions { bridge_create: false, ..AgentOptions::default() });
    cluster.settle();
    // The engines: an IPv4 address and a container on the agent's bridge, and a bridge with another prefix.
    host.ip(&format!("address add 172.17.0.1/16 dev {BRIDGE}")).unwrap();
    let container = host.container("c").unwrap();
    let (target, elsewhere) = (std::ops::Deref::deref(&other).name().to_owned(), "fd00:77::2");
    host.ip_batch(&format!(
        "link add br-x type bridge
         link set br-x up
         address add fd00:77::1/64 dev br-x nodad
         link add vx type veth peer name x0 netns {target}
         link set vx master br-x up"
    ))
    .unwrap();
    other.ip_batch(&format!("link set x0 up\naddress add {elsewhere}/64 dev x0 nodad")).unwrap();
    other.ip(&format!("-6 route add {} via fd00:77::1 dev x0 metric 10", cluster.prefix("h1"))).unwrap();
    let gateway = host.bridge_address().unwrap().0;
    let works = || {
        container.ping(gateway)?.replied()?;
        container.ping(elsewhere.parse()?)?.replied()
    };
    poll("the containers reach each other", 10 * SECONDS, works);

    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let busy = cleanup(&cluster, &[]);
    let printed = text(&busy);
    assert_eq!(busy.status.code(), Some(1), "{printed}");
    for kept in [
        "sysctl net/ipv6/conf/all/forwarding left at 1: the containers on ",
        &format!("address {gateway}/80 of {BRIDGE} kept: ve1 are connected to it"),
        &format!("interface {BRIDGE} left up: ve1 are connected to it"),
    ] {
        assert!(printed.contains(kept), "no \"{kept}\" in\n{printed}");
    }
    poll("the containers still reach each other", 10 * SECONDS, works);
    assert_eq!(host.routes_of(66).unwrap(), Vec::<String>::new());

    // As the printed fix says: the containers are stopped. The engine's own address is still there.
    container.ip("link delete eth0").unwrap();
    host.ip("link delete vx").unwrap();
    let printed = text(&cleanup(&cluster, &[]));
    assert!(printed.contains("net/ipv6/conf/all/forwarding: 1 back to 0"), "{printed}");
    assert!(printed.contains(&format!("{BRIDGE} left up: it also has an IPv4 address")), "{printed}");
    host.ip(&format!("address delete 172.17.0.1/16 dev {BRIDGE}")).unwrap();
    let done = cleanup(&cluster, &[]);
    assert!(done.status.success() && text(&done) == format!("interface {BRIDGE} set down\n"), "{done:?}");
    assert_eq!(text(&cleanup(&cluster, &[])), "nothing to undo\n");
}

/// Runs `sextant-agent cleanup` on the first host.
fn cleanup(cluster: &Cluster, more: &[&str]) -> std::process::Output {
    let agent = bin("sextant-agent").unwrap().display().to_string();
    let host = &cluster.hosts[0];
    let state_dir = cluster.lab.state_dir(host).display().to_string();
    host.run(&[&[agent.as_str(), "cleanup", "--state-dir", &state_dir], more].concat()).unwrap()
}
