//! What lasts: flows, while the agent lives and while it is dead; entries, which others remove; and nothing, once it is undone.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sextant_tests::{Container, MILLISECONDS, SECONDS, poll};

use super::{MODES, end, entries, losses, options, outages, outsider, port, problems, start};

const NOTHING_LOST: &str = " 0% packet loss";

#[test]
fn neighbours_checks_lose_nothing_while_the_agent_lives_restarts_and_is_dead() {
    for mode in MODES {
        let mut cluster = start(&format!("ndp lasts {mode}"), 1, &["--ndp-mode", mode]);
        let outsider = outsider(&cluster);
        // Its neighbours are checked by unicast solicitations every second or so (RFC 4861 §7.3).
        for sysctl in ["base_reachable_time_ms", "delay_first_probe_time"] {
            let value = if sysctl.ends_with("ms") { "1000" } else { "1" };
            outsider.sysctl(&format!("net/ipv6/neigh/eth0/{sysctl}"), value).unwrap();
        }
        let container = cluster.hosts[0].container("c").unwrap();
        poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
        let lost = losses(&outsider, container.address(), 8);
        assert!(lost.contains(NOTHING_LOST), "{mode}: {lost}");

        poll("the kernel answers for it", 5 * SECONDS, || {
            let found = entries(&cluster.hosts[0]);
            anyhow::ensure!(found.contains(&container.address().to_string()), "{found:?}");
            Ok(())
        });
        cluster.agents.remove(0).process.kill().unwrap();
        let lost = losses(&outsider, container.address(), 8);
        assert!(lost.contains(NOTHING_LOST), "{mode}, dead: {lost}");
        // Whoever asks for the first time is answered too.
        outsider.ip("-6 neighbour flush all").unwrap();
        poll("it is reached anew", 5 * SECONDS, || outsider.ping(container.address())?.replied());

        cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
        let lost = losses(&outsider, container.address(), 6);
        assert!(lost.contains(NOTHING_LOST), "{mode}, started again: {lost}");
        cluster.settle();
        assert_eq!(problems(&cluster, "h1"), "[]");
    }
}

#[test]
fn entries_and_settings_that_others_remove_come_back_and_those_of_others_stay() {
    let cluster = start("ndp healed", 1, &[]);
    let (outsider, host) = (outsider(&cluster), &cluster.hosts[0]);
    let container = host.container("c").unwrap();
    let address = container.address().to_string();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let back = |what: &str| {
        poll(what, 5 * SECONDS, || {
            let found = entries(host);
            anyhow::ensure!(found.contains(&address), "{found:?}");
            Ok(())
        });
    };
    back("the kernel answers for it");
    host.ip(&format!("-6 neighbour del proxy {address} dev eth0")).unwrap();
    back("a removed entry");
    // The kernel drops the entries with the link.
    host.ip("link set eth0 down").unwrap();
    host.ip("link set eth0 up").unwrap();
    host.ip(&format!("address replace {}/64 dev eth0 nodad", host.address())).unwrap();
    back("the entries after the link was down");
    poll("it is reached again", 10 * SECONDS, || outsider.ping(container.address())?.replied());
    host.sysctl("net/ipv6/conf/all/proxy_ndp", "0").unwrap();
    poll("the setting is back", 5 * SECONDS, || {
        let value = host.check(&["cat", "/proc/sys/net/ipv6/conf/all/proxy_ndp"])?;
        anyhow::ensure!(value.trim() == "1", "{value}");
        Ok(())
    });
    let others = "2001:db8::d00d";
    host.ip(&format!("-6 neighbour add proxy {others} dev eth0")).unwrap();
    // The agent has compared all entries once more when its own one is back.
    host.ip(&format!("-6 neighbour del proxy {address} dev eth0")).unwrap();
    back("a removed entry beside that of another process");
    assert!(entries(host).contains(&others.to_owned()), "an entry of another process");
}

#[test]
fn another_topology_and_a_cleanup_leave_nothing_behind() {
    let mut cluster = start("ndp undone", 1, &[]);
    let value = |cluster: &sextant_tests::cluster::Cluster, path: &str| {
        cluster.hosts[0].check(&["cat", &format!("/proc/sys/net/ipv6/{path}")]).unwrap().trim().to_owned()
    };
    let settings = |cluster: &_| {
        ["conf/all/proxy_ndp", "conf/eth0/proxy_ndp", "neigh/eth0/proxy_delay"]
            .map(|path| value(cluster, path))
    };
    let container = cluster.hosts[0].container("c").unwrap();
    poll("the kernel answers for it", 10 * SECONDS, || {
        container.ping(cluster.hosts[0].bridge_address()?.0)?.replied()?;
        let found = entries(&cluster.hosts[0]);
        anyhow::ensure!(found.contains(&container.address().to_string()), "{found:?}");
        Ok(())
    });
    assert_eq!(settings(&cluster), ["1", "1", "0"]);
    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    assert_eq!(entries(&cluster.hosts[0]).len(), 2, "a stop changes nothing");
    cluster.start_agent(0);
    poll("the changes for the former topology are undone", 10 * SECONDS, || {
        let (found, settings) = (entries(&cluster.hosts[0]), settings(&cluster));
        anyhow::ensure!(found.is_empty() && settings == ["0", "0", "80"], "{found:?} {settings:?}");
        Ok(())
    });
}

/// No solicitation is unanswered for more than that, whatever happens to the agent.
const UNANSWERED: Duration = Duration::from_millis(100);

#[test]
fn no_solicitation_waits_while_the_agent_is_started_again() {
    for mode in MODES {
        let mut cluster = start(&format!("ndp restarts {mode}"), 1, &["--ndp-mode", mode]);
        let outsider = outsider(&cluster);
        let container = cluster.hosts[0].container("c").unwrap();
        poll("the kernel answers for it", 10 * SECONDS, || {
            outsider.ping(container.address())?.replied()?;
            anyhow::ensure!(entries(&cluster.hosts[0]).contains(&container.address().to_string()));
            Ok(())
        });
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let ask = asker.solicitation(container.address());
        let (answer, _) = asker.ask(&ask, SECONDS).unwrap();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let asks = scope.spawn(|| {
                let mut asked = 0;
                while !ended.load(Ordering::SeqCst) {
                    for it in [ask.clone(), ask.clone().unicast(answer.from), ask.clone().probe()] {
                        asker
                            .ask(&it, UNANSWERED)
                            .unwrap_or_else(|error| panic!("{mode}: {it:?}: {error:#}"));
                        asked += 1;
                    }
                    thread::sleep(MILLISECONDS);
                }
                asked
            });
            cluster.agents.remove(0).process.kill().unwrap();
            cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
            cluster.settle();
            cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
            cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
            cluster.settle();
            ended.store(true, Ordering::SeqCst);
            let asked = asks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(asked > 100, "{asked}");
        });
    }
}

#[test]
#[ignore = "slow: an agent is dead for ten minutes"]
fn nothing_is_lost_while_the_agent_is_dead_for_ten_minutes() {
    thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || {
                let mut cluster = start(&format!("ndp dead {mode}"), 1, &["--ndp-mode", mode]);
                let outsider = outsider(&cluster);
                outsider.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", "1000").unwrap();
                outsider.sysctl("net/ipv6/neigh/eth0/delay_first_probe_time", "1").unwrap();
                let container = cluster.hosts[0].container("c").unwrap();
                poll("the kernel answers for it", 10 * SECONDS, || {
                    outsider.ping(container.address())?.replied()?;
                    anyhow::ensure!(entries(&cluster.hosts[0]).contains(&container.address().to_string()));
                    Ok(())
                });
                cluster.agents.remove(0).process.kill().unwrap();
                let outages = outages(&outsider, container.address(), 600);
                assert!(outages.iter().all(|it| *it < UNANSWERED), "{mode}: {outages:?}");
            });
        }
    });
}

/// How many solicitations a container has received.
fn solicited(container: &Container) -> u64 {
    let shown = container.check(&["cat", "/proc/self/net/snmp6"]).unwrap();
    let line = shown.lines().find_map(|line| line.strip_prefix("Icmp6InNeighborSolicits")).unwrap();
    line.trim().parse().unwrap()
}

/// The others are asked for only if their bridge does not know who was on the port.
#[test]
fn the_end_of_a_container_has_only_its_own_addresses_asked_for() {
    for learns in [true, false] {
        let cluster = start(&format!("ndp ended {learns}"), 1, &[]);
        let host = &cluster.hosts[0];
        let all = ["a", "b", "c"].map(|name| host.container(name).unwrap());
        poll("the kernel answers for all", 10 * SECONDS, || {
            let found = entries(host);
            anyhow::ensure!(all.iter().all(|it| found.contains(&it.address().to_string())), "{found:?}");
            Ok(())
        });
        let [ended, others @ ..] = &all;
        if !learns {
            host.ip(&format!("link set {} type bridge_slave learning off", port(host, ended))).unwrap();
        }
        let before = others.each_ref().map(solicited);
        end(host, ended);
        poll("it is no longer answered for", 2 * SECONDS, || {
            let found = entries(host);
            anyhow::ensure!(!found.contains(&ended.address().to_string()), "{found:?}");
            Ok(())
        });
        let asked = before != others.each_ref().map(solicited);
        assert_eq!(asked, !learns, "learns: {learns}");
        let found = entries(host);
        assert!(others.iter().all(|it| found.contains(&it.address().to_string())), "{found:?}");
    }
}
