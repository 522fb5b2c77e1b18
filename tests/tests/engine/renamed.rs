//! Links whose name changes: a name is not an identity.

use sextant_tests::{AgentOptions, BRIDGE, Host, SECONDS, UdpStream, cluster::sorted, poll};

use crate::testbed::{Testbed, text};

/// The index of a link.
fn index(host: &Host, name: &str) -> anyhow::Result<String> {
    let shown = host.ip(&format!("-o link show dev {name}"))?;
    Ok(shown.split(':').next().unwrap_or_default().to_owned())
}

fn expect_index(host: &Host, name: &str, expected: &str) {
    poll(&format!("{name} is link {expected}"), 5 * SECONDS, || {
        let (now, links) = (index(host, name), host.ip("-br link show")?);
        let now = now.map_err(|error| anyhow::anyhow!("{error:#}: {links}"))?;
        anyhow::ensure!(now == expected, "{now}: {links}");
        anyhow::Ok(())
    });
}

/// Waits until status begins so, and has these words.
fn expect_status(testbed: &Testbed, begins: &str, words: &str) {
    poll(&format!("status says {begins} … {words}"), 20 * SECONDS, || {
        let text = testbed.cluster.sextant(&["status"]);
        anyhow::ensure!(text.starts_with(begins) && text.contains(words), "{text}");
        anyhow::Ok(())
    });
}

/// Among them a second bridge with the same prefix.
fn expect_bridges(host: &Host, expected: &[&str]) {
    let shown = host.ip("-br link show type bridge").unwrap();
    let names: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, expected, "{shown}");
}

/// While the agent runs, and while it does not.
#[test]
fn i13_the_agents_bridge_gets_its_name_back_and_its_containers_notice_nothing() {
    let mut testbed = Testbed::start("renamed bridge", 2);
    let host = testbed.host().clone();
    let (before, stream) = (index(&host, BRIDGE).unwrap(), testbed.stream(0, 1));
    host.ip(&format!("link set dev {BRIDGE} name brx")).unwrap();
    expect_index(&host, BRIDGE, &before);
    expect_status(
        &testbed,
        "Not all is well",
        &format!("another process changed name of bridge {BRIDGE}: brx"),
    );

    let agent = testbed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    host.ip(&format!("link set dev {BRIDGE} name brx")).unwrap();
    let agent = testbed.cluster.lab.agent(&host, AgentOptions::default()).unwrap();
    testbed.cluster.agents.insert(0, agent);
    expect_index(&host, BRIDGE, &before);
    testbed.cluster.settle();
    expect_bridges(&host, &[BRIDGE]);
    nothing_is_lost_or_left(testbed, stream);
}

/// The operator has renamed it, and named it in the settings.
#[test]
fn i4_the_record_of_changes_follows_a_bridge_to_its_new_name() {
    let mut testbed = Testbed::start("bridge with another name", 2);
    let (host, stream) = (testbed.host().clone(), testbed.stream(0, 1));
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    host.ip(&format!("link set dev {BRIDGE} name brx")).unwrap();
    let planned = text(&testbed.cleanup(&["--dry-run"]));
    assert!(planned.contains("of brx removed") && planned.contains("bridge brx kept"), "{planned}");

    let options = AgentOptions { bridge: "brx".into(), ..AgentOptions::default() };
    let agent = testbed.cluster.lab.agent(&host, options).unwrap();
    testbed.cluster.agents.insert(0, agent);
    testbed.cluster.settle();
    expect_status(&testbed, "All is well", "");
    expect_bridges(&host, &["brx"]);
    nothing_is_lost_or_left(testbed, stream);
}

/// It has its addresses and its routes under another name, and the cluster needs nothing else.
#[test]
fn an_uplink_is_used_under_another_name() {
    let mut testbed = Testbed::start("renamed uplink", 2);
    let (host, stream) = (testbed.host().clone(), testbed.stream(1, 0));
    let renamed: Vec<_> = sorted(host.routes_of(66).unwrap())
        .iter()
        .map(|route| route.replace("dev eth0", "dev lan0"))
        .collect();
    host.ip("link set dev eth0 name lan0").unwrap();
    expect_status(&testbed, "Not all is well", "uplink \"eth0\" is named \"lan0\" now");
    assert_eq!(sorted(host.routes_of(66).unwrap()), renamed);
    stream.flows(20, 10 * SECONDS).unwrap();
    stream.finish().unwrap().nothing_lost().unwrap();
    // It is watched as before.
    host.ip(&format!("-6 route del {}", testbed.cluster.prefix("h2"))).unwrap();
    poll("the deleted route is back", SECONDS, || {
        let routes = sorted(host.routes_of(66)?);
        anyhow::ensure!(routes == renamed, "{routes:#?}");
        anyhow::Ok(())
    });
    host.sysctl("net/ipv6/conf/lan0/accept_ra", "1").unwrap();
    poll("accept_ra is 2 again", 10 * SECONDS, || {
        let now = crate::kept::value(&host, "lan0/accept_ra")?;
        anyhow::ensure!(now == "2", "{now}");
        anyhow::Ok(())
    });
    host.ip("link set dev lan0 name eth0").unwrap();
    poll("its name is no finding any more", 20 * SECONDS, || {
        let text = testbed.cluster.sextant(&["status"]);
        anyhow::ensure!(!text.contains("is named"), "{text}");
        anyhow::Ok(())
    });
    testbed.cluster.expect_full_mesh();
    host.ip("link delete ve1").unwrap();
    testbed.expect_foreign_routes();
    testbed.cleans_up();
}

/// `cleanup` finds under the new name what the agent has set under the former one.
#[test]
fn i4_cleanup_restores_the_sysctls_of_an_uplink_under_its_new_name() {
    let mut testbed = Testbed::start("renamed and left", 1);
    let host = testbed.host().clone();
    host.ip("link set dev eth0 name lan0").unwrap();
    expect_status(&testbed, "Not all is well", "uplink \"eth0\" is named \"lan0\" now");
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let done = text(&testbed.cleanup(&[]));
    assert!(done.contains("lan0/accept_ra: 2 back to 1"), "{done}");
    host.ip("link set dev lan0 name eth0").unwrap();
    testbed.is_restored();
}

/// The operator has renamed it, and named it in the settings, or has not started the agent again.
#[test]
fn i4_the_record_follows_an_uplink_that_is_renamed_while_no_agent_runs() {
    for starts in [true, false] {
        let mut testbed = Testbed::start("renamed between two runs", 1);
        let host = testbed.host().clone();
        testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        host.ip("link set dev eth0 name lan0").unwrap();
        if starts {
            let options = AgentOptions { uplink: "lan0".into(), ..AgentOptions::default() };
            let agent = testbed.cluster.lab.agent(&host, options).unwrap();
            testbed.cluster.agents.insert(0, agent);
            testbed.cluster.settle();
            expect_status(&testbed, "All is well", "");
            testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
        }
        let done = text(&testbed.cleanup(&[]));
        assert!(done.contains("lan0/accept_ra: 2 back to 1"), "{done}");
        host.ip("link set dev lan0 name eth0").unwrap();
        testbed.is_restored();
    }
}

/// Moved to another network namespace and back, and replaced by another one of the same name.
#[test]
fn an_uplink_that_is_gone_for_a_while_is_used_again() {
    let testbed = Testbed::start("uplink away", 3);
    let (host, stream) = (testbed.host().clone(), testbed.stream(1, 2));
    let (own, switch) = (host.address(), testbed.cluster.lab.switch());
    let (here, there) = (std::ops::Deref::deref(&host).name().to_owned(), switch.name().to_owned());
    let gone = || {
        poll("/readyz names the missing uplink", 20 * SECONDS, || {
            match testbed.cluster.agents[0].http("/readyz")? {
                (503, body) if body.contains("uplink \"eth0\" does not exist") => anyhow::Ok(()),
                other => anyhow::bail!("{other:?}"),
            }
        });
    };
    let again = || {
        for sysctl in ["accept_dad", "dad_transmits"] {
            host.sysctl(&format!("net/ipv6/conf/eth0/{sysctl}"), "0").unwrap();
        }
        host.ip("link set eth0 up").unwrap();
        host.ip(&format!("-6 address replace {own}/64 dev eth0 nodad")).unwrap();
        testbed.is_converged();
        expect_status(&testbed, "All is well", "");
    };
    host.ip(&format!("link set eth0 netns {there}")).unwrap();
    gone();
    // Another link comes meanwhile.
    host.ip("link add other type veth peer name far").unwrap();
    switch.ip(&format!("link set eth0 netns {here}")).unwrap();
    again();

    host.ip("link delete other").unwrap();
    host.ip("link delete eth0").unwrap();
    gone();
    switch
        .ip(&format!("link add anew type veth peer name eth0 address 02:00:00:00:00:01 netns {here}"))
        .unwrap();
    switch.ip("link set anew master br0 up").unwrap();
    again();
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.cleans_up();
}

/// Its container has noticed nothing, and a cleanup leaves nothing behind.
fn nothing_is_lost_or_left(mut testbed: Testbed, stream: UdpStream) {
    stream.flows(20, 10 * SECONDS).unwrap();
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.host().ip("link delete ve1").unwrap();
    testbed.expect_foreign_routes();
    testbed.cleans_up();
}
