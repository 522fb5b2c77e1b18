//! Host state that other processes change: the agent restores it, and reports it.

use sextant_tests::{
    AgentOptions, Host, MILLISECONDS, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// The value of a sysctl of `net.ipv6.conf`.
pub fn value(host: &Host, sysctl: &str) -> anyhow::Result<String> {
    Ok(host.check(&["cat", &format!("/proc/sys/net/ipv6/conf/{sysctl}")])?.trim().to_owned())
}

fn set(host: &Host, sysctl: &str, value: &str) {
    host.sysctl(&format!("net/ipv6/conf/{sysctl}"), value).unwrap();
}

fn expect_value(host: &Host, sysctl: &str, expected: &str) {
    poll(&format!("{sysctl} is {expected}"), 5 * SECONDS, || {
        let now = value(host, sysctl)?;
        anyhow::ensure!(now == expected, "{sysctl} is {now}");
        anyhow::Ok(())
    });
}

/// Waits until status names the problem; returns its text.
pub fn expect_status(cluster: &Cluster, words: &str) -> String {
    poll(&format!("status names {words}"), 10 * SECONDS, || {
        let text = cluster.sextant(&["status"]);
        if text.starts_with("Not all is well") && text.contains(words) { Ok(text) } else { Err(text) }
    })
}

/// The resync is an hour away: nothing here waits for it.
fn start(test: &str) -> Cluster {
    let mut cluster = Cluster::without_agents(test, 1, GUIDE);
    let args = ["--routes-resync", "3600"].map(str::to_owned).to_vec();
    cluster.start_agent_with(0, AgentOptions { args, ..AgentOptions::default() });
    cluster.settle();
    cluster
}

#[test]
fn i13_sysctls_that_another_process_changes_are_restored_and_reported() {
    let cluster = start("kept sysctls");
    let host = &cluster.hosts[0];
    let changes = [
        ("all/forwarding", "0", "1"),
        ("eth0/forwarding", "0", "1"),
        ("docker0/forwarding", "0", "1"),
        ("eth0/accept_ra", "1", "2"),
        ("docker0/accept_ra", "2", "0"),
    ];
    for (sysctl, changed, right) in changes {
        expect_value(host, sysctl, right);
        set(host, sysctl, changed);
        expect_value(host, sysctl, right);
        let name = format!("net.ipv6.conf.{}", sysctl.replace('/', "."));
        // The text has many of one kind in one line.
        expect_status(&cluster, &name);
        let words = format!("another process changed sysctl {name}: {changed}");
        poll(&words, SECONDS, || {
            let problems = cluster.node("h1")["applied"]["problems"].to_string();
            anyhow::ensure!(problems.contains(&words), "{problems}");
            Ok(())
        });
    }
    // An operator's choice: the kernel ignores router advertisements on the link.
    set(host, "eth0/accept_ra", "0");
    set(host, "all/forwarding", "0");
    expect_value(host, "all/forwarding", "1");
    assert_eq!(value(host, "eth0/accept_ra").unwrap(), "0");
}

/// Without it, the kernel solicits no neighbour for a packet that it forwards. Whatever the kernel does by itself.
#[test]
fn i13_the_bridges_link_local_address_is_restored() {
    let cluster = start("kept link-local");
    let host = &cluster.hosts[0];
    // The kernel adds one with the first port.
    host.container("c").unwrap();
    let shown = || host.ip("-6 -o address show dev docker0 scope link");
    let before = poll("there is one", 10 * SECONDS, || {
        Some(shown()?).filter(|shown| shown.contains("fe80::")).ok_or_else(|| anyhow::anyhow!("none"))
    });
    let addr = |shown: &str| shown.split("inet6 ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for flush in ["-6 address flush dev docker0", "-6 address flush dev docker0 scope link"] {
        host.ip(flush).unwrap();
        poll("it is back", 5 * SECONDS, || {
            let now = shown()?;
            anyhow::ensure!(now.contains(&addr(&before)), "{now:?}, but it was {before}");
            host.bridge_address()
        });
    }
    expect_status(&cluster, "another process changed link-local address of docker0: removed");
    set(host, "docker0/addr_gen_mode", "1");
    host.ip("link set docker0 down").unwrap();
    poll("there is one though the kernel adds none", 5 * SECONDS, || {
        let now = shown()?;
        anyhow::ensure!(now.contains("fe80::"), "{now:?}");
        host.bridge_address()
    });
}

#[test]
fn a_process_that_switches_forwarding_off_all_the_time_does_not_flood_the_log() {
    let cluster = start("lasting change");
    let (host, agent) = (&cluster.hosts[0], &cluster.agents[0].process);
    let printed = agent.log_len();
    let fight = "for n in $(seq 50); do echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; sleep 0.02; done";
    host.check(&["sh", "-c", fight]).unwrap();
    expect_value(host, "all/forwarding", "1");
    expect_status(&cluster, "another process changed sysctl net.ipv6.conf.all.forwarding: 0");
    let log = agent.log()[printed..].to_owned();
    // A change between two reads is seen in the values of the interfaces, which follow: each value is named once.
    let lines: Vec<_> = log.lines().filter(|line| line.contains("forwarding")).collect();
    for changed in ["all", "docker0", "eth0"] {
        let text = format!("another process changed sysctl net.ipv6.conf.{changed}.forwarding");
        let named = lines.iter().filter(|line| line.contains(&text)).count();
        assert!(named == 1 || (named == 0 && changed != "all"), "{changed}: {log}");
    }
    assert!(lines.len() <= 3, "{log}");
}

/// Each of them undoes what the agent restores as soon as it is restored.
#[test]
fn i13_a_process_that_undoes_every_restoration_is_answered_less_and_less_often() {
    let cluster = start("mutual changes");
    let host = &cluster.hosts[0];
    let (addr, len) = host.bridge_address().unwrap();
    let fights = [
        (
            "read v </proc/sys/net/ipv6/conf/all/forwarding; [ $v = 1 ]",
            "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding".to_owned(),
            "sysctl net.ipv6.conf.all.forwarding: 0",
        ),
        (
            "ip -6 -o address show dev docker0 scope global | grep -q inet6",
            format!("ip -6 address delete {addr}/{len} dev docker0"),
            "on docker0: removed",
        ),
        (
            "ip -o link show docker0 | grep -q ,UP",
            "ip link set docker0 down".to_owned(),
            "interface docker0: down",
        ),
    ];
    for (stands, undo, words) in fights {
        let fight = format!(
            "n=0; end=$(($(date +%s) + 5)); while [ $(date +%s) -lt $end ]; do if {stands}; then {undo}; n=$((n + 1)); fi; \
             done; echo $n"
        );
        let times: u32 = host.check(&["sh", "-c", &fight]).unwrap().trim().parse().unwrap();
        assert!((31..40).contains(&times), "{undo}: {times} times");
        poll("it is restored", 10 * SECONDS, || host.check(&["sh", "-c", stands]));
        let text = expect_status(&cluster, words);
        assert!(text.contains("restored it less and less often"), "{text}");
    }
}

#[test]
fn i13_a_bridge_that_another_process_takes_down_or_empties_is_restored_and_reported() {
    let cluster = start("kept bridge");
    let host = &cluster.hosts[0];
    let before = host.bridge_address().unwrap();
    let (addr, len) = before;
    let changes = [
        ("link set docker0 down".to_owned(), "another process changed interface docker0: down"),
        (format!("-6 address delete {addr}/{len} dev docker0"), "on docker0: removed"),
    ];
    for (change, words) in changes {
        host.ip(&change).unwrap();
        poll("the bridge is up and has its address", 5 * SECONDS, || {
            let now = host.bridge_address()?;
            let link = host.ip("-o link show docker0")?;
            anyhow::ensure!(now == before && link.contains(",UP"), "{now:?}, {link}");
            anyhow::Ok(())
        });
        let text = expect_status(&cluster, words);
        let one = words.contains("interface") && text.contains("address of");
        assert!(!one, "the kernel has removed the addresses with the link: {text}");
    }
}

/// `ip -6 route flush` takes the connected routes too. Containers need that of the bridge; it comes with the address.
#[test]
fn i13_the_bridges_connected_route_is_restored_with_every_flush() {
    let cluster = start("flushed routes");
    let (host, bridge) = (&cluster.hosts[0], cluster.hosts[0].bridge_address().unwrap());
    let routes = || host.ip("-6 route show").unwrap();
    let before = routes();
    let prefix = format!(
        "{}/{} dev docker0",
        sextant_proto::Prefix::containing(bridge.0, bridge.1).unwrap().addr(),
        bridge.1
    );
    assert!(before.contains(&prefix), "{before}");
    for flush in [
        "route flush dev docker0 proto kernel",
        "route flush root 2001:db8:8000::/40",
        "route flush proto 66",
    ] {
        host.ip(&format!("-6 {flush}")).unwrap();
        poll(&format!("the routes are back after {flush}"), 5 * SECONDS, || {
            let now = routes();
            anyhow::ensure!(
                now.lines().all(|line| before.contains(line)) && now.len() == before.len(),
                "{now}, not {before}"
            );
            anyhow::Ok(())
        });
    }
    expect_status(&cluster, "another process changed connected route ");
    // The owner of such an address has a route of its own; one that takes its route away leaves none.
    let address = format!("{}/{}", bridge.0, bridge.1);
    host.ip(&format!("-6 address change {address} dev docker0 nodad noprefixroute")).unwrap();
    poll("the connected route is back", 5 * SECONDS, || {
        let now = routes();
        anyhow::ensure!(now.contains(&prefix), "{now}");
        anyhow::Ok(())
    });
    expect_status(&cluster, "another process changed routes of sextant-agent: 2001:db8:80");
}

/// The fix that is shown is carried out.
#[test]
fn a_bridge_without_ipv6_is_named_with_the_fix_and_heals() {
    let cluster = start("without ipv6");
    let host = &cluster.hosts[0];
    let before = host.bridge_address().unwrap();
    let causes: [(&dyn Fn(), &str, &str); 3] = [
        (&|| set(host, "docker0/disable_ipv6", "1"), "docker0.disable_ipv6 = 1", "sysctl -w "),
        (
            &|| drop(host.ip("link set docker0 mtu 1200").unwrap()),
            "bridge docker0 has MTU 1200",
            "ip link set ",
        ),
        (
            &|| drop(host.ip("link set docker0 mtu 1279").unwrap()),
            "bridge docker0 has MTU 1279",
            "ip link set ",
        ),
    ];
    for (cause, words, fix) in causes {
        cause();
        let text = expect_status(&cluster, words);
        poll("/readyz names it", 5 * SECONDS, || match cluster.agents[0].http("/readyz")? {
            (503, body) if body.contains(words) => anyhow::Ok(()),
            other => anyhow::bail!("{other:?}"),
        });
        let from = text.find(fix).unwrap_or_else(|| panic!("no {fix} in {text}"));
        let words = text[from..].split([',', '(', ';']).next().unwrap().split_whitespace();
        host.check(&words.collect::<Vec<_>>()).unwrap();
        poll("the bridge has its address", 5 * SECONDS, || {
            let now = host.bridge_address()?;
            anyhow::ensure!(now == before, "{now:?}");
            anyhow::Ok(())
        });
        expect_value(host, "docker0/forwarding", "1");
        expect_value(host, "docker0/accept_ra", "0");
    }
}

#[test]
fn an_uplink_without_ipv6_is_named_and_heals() {
    let cluster = start("uplink without ipv6");
    let (host, agent) = (&cluster.hosts[0], &cluster.agents[0]);
    let again = || drop(host.ip(&format!("-6 address add {}/64 dev eth0 nodad", host.address())).unwrap());
    let well = || {
        poll("the host is ready", 20 * SECONDS, || {
            let answer = agent.http("/readyz")?;
            anyhow::ensure!(answer.0 == 200, "{answer:?}");
            anyhow::Ok(())
        });
        expect_value(host, "eth0/accept_ra", "2");
        expect_value(host, "eth0/forwarding", "1");
    };
    host.ip("link set eth0 mtu 1200").unwrap();
    poll("/readyz names the MTU", 10 * SECONDS, || match agent.http("/readyz")? {
        (503, body) if body.contains("uplink eth0 has MTU 1200") => anyhow::Ok(()),
        other => anyhow::bail!("{other:?}"),
    });
    host.ip("link set eth0 mtu 1500").unwrap();
    again();
    well();
    // Of all interfaces, the loopback interface included: nothing but the log can say so.
    let printed = agent.process.log_len();
    set(host, "all/disable_ipv6", "1");
    agent.process.wait_for_line_after(printed, "eth0.disable_ipv6 = 1", 10 * SECONDS).unwrap();
    set(host, "all/disable_ipv6", "0");
    again();
    well();
}

/// The passes of the agent's engine that events of the kernel have caused.
fn passes(cluster: &Cluster) -> u64 {
    let metrics = cluster.agents[0].http("/metrics").unwrap().1;
    let count = metrics.lines().find_map(|line| line.strip_prefix("sextant_agent_event_lag_seconds_count "));
    count.unwrap().parse().unwrap()
}

#[test]
fn links_of_containers_cause_no_pass() {
    let cluster = start("churn");
    let host = &cluster.hosts[0];
    // Two bridges: the agent's, and another engine's.
    host.ip("link add br-x type bridge").unwrap();
    host.ip("link set br-x up").unwrap();
    let quiet = poll("events have been processed", 20 * SECONDS, || {
        let before = passes(&cluster);
        std::thread::sleep(1500 * MILLISECONDS);
        if passes(&cluster) == before { Ok(before) } else { Err("not yet") }
    });
    for n in 0..40 {
        for bridge in ["docker0", "br-x"] {
            host.ip_batch(&format!(
                "link add w{n} type veth peer name x{n}
                 link set w{n} master {bridge} up
                 link set x{n} up
                 link delete w{n}"
            ))
            .unwrap();
        }
    }
    let caused = passes(&cluster) - quiet;
    assert!(caused <= 4, "{caused} passes for the links of 80 containers");
}
