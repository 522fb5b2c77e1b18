//! What changes while flows last: the mode, the link's own prefixes, and which container has an address.

use std::{net::Ipv6Addr, thread};

use sextant_tests::{Container, Lab, SECONDS, poll};

use super::{MODES, entries, losses, options, outsider, problems, start};

const NOTHING_LOST: &str = " 0% packet loss";

fn entries_are(host: &sextant_tests::Host, expected: &[Ipv6Addr]) {
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    poll("the kernel answers for these", 10 * SECONDS, || {
        let found = entries(host);
        anyhow::ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    });
}

#[test]
fn another_mode_loses_nothing() {
    let mut cluster = start("ndp modes", 1, &["--ndp-mode", MODES[0]]);
    let (outsider, host) = (outsider(&cluster), cluster.hosts[0].clone());
    outsider.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", "1000").unwrap();
    outsider.sysctl("net/ipv6/neigh/eth0/delay_first_probe_time", "1").unwrap();
    let container = host.container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let all = [container.address(), host.bridge_address().unwrap().0];
    entries_are(&host, &all);
    for mode in [MODES[1], MODES[0]] {
        thread::scope(|scope| {
            let flow = scope.spawn(|| losses(&outsider, container.address(), 8));
            cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
            cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
            cluster.settle();
            let lost = flow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(lost.contains(NOTHING_LOST), "{mode}: {lost}");
        });
        entries_are(&host, &all);
        assert_eq!(cluster.lab.cli_json(&["node", "show", "h1"]).unwrap()["ndp"]["mode"], mode);
        assert_eq!(problems(&cluster, "h1"), "[]", "{mode}");
    }
}

/// The prefix is answered for where it was on-link, although the link has another one now: its containers still have their addresses.
#[test]
fn a_link_with_another_prefix_goes_on_being_answered_and_that_is_reported() {
    let cluster = start("ndp renumbered", 1, &[]);
    let (outsider, host) = (outsider(&cluster), &cluster.hosts[0]);
    let container = host.container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let all = [container.address(), host.bridge_address().unwrap().0];
    entries_are(host, &all);
    let reported = |expected: bool| {
        poll("the report of the prefix", 40 * SECONDS, || {
            let found = problems(&cluster, "h1");
            anyhow::ensure!(found.contains("ndp-not-on-link") == expected, "{found}");
            Ok(())
        });
    };
    let own = host.address();
    host.ip("address add 2001:db8:0:77::1/64 dev eth0 nodad").unwrap();
    host.ip(&format!("address change {own}/64 dev eth0 preferred_lft 0")).unwrap();
    outsider.ping(container.address()).unwrap().replied().unwrap();
    reported(false);
    // The controller is still reached.
    host.ip("address add 2001:db8::303/128 dev eth0 nodad").unwrap();
    host.ip(&format!("-6 route add {} dev eth0", Lab::controller_address(1))).unwrap();
    host.ip(&format!("address del {own}/64 dev eth0")).unwrap();
    reported(true);
    entries_are(host, &all);
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    asker.ask(&asker.solicitation(container.address()), SECONDS).unwrap();
    host.ip(&format!("address add {own}/64 dev eth0 nodad")).unwrap();
    reported(false);
    entries_are(host, &all);
}

/// It detects duplicates, as containers do by default, and announces the address as those do that take one over: until the host has heard
/// that, its kernel sends to the former container.
fn give(container: &Container, address: Ipv6Addr) {
    for sysctl in ["accept_dad", "dad_transmits", "ndisc_notify"] {
        container.sysctl(&format!("net/ipv6/conf/eth0/{sysctl}"), "1").unwrap();
    }
    container.ip(&format!("address add {address}/128 dev eth0")).unwrap();
}

#[test]
fn an_address_that_goes_to_another_container_of_the_host_is_answered_for_once() {
    let cluster = start("ndp passed on", 1, &[]);
    let (outsider, host) = (outsider(&cluster), &cluster.hosts[0]);
    let [one, other] = ["a", "b"].map(|name| host.container(name).unwrap());
    let bridge = host.bridge_address().unwrap().0;
    let prefix = cluster.prefix("h1");
    let used = [one.address(), other.address(), bridge];
    let more = (1..8).map(|n| Ipv6Addr::from_bits(prefix.addr().to_bits() + n));
    let free: Vec<_> = more.filter(|it| !used.contains(it)).collect();
    let [first, second] = [free[0], free[1]];
    for address in [first, second] {
        give(&one, address);
        poll("each address is reached", 5 * SECONDS, || outsider.ping(address)?.replied());
    }
    entries_are(host, &[one.address(), other.address(), bridge, first, second]);
    one.ip(&format!("address del {first}/128 dev eth0")).unwrap();
    give(&other, first);
    poll("it is reached at the other container", 15 * SECONDS, || outsider.ping(first)?.replied());
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    poll("it is answered for once", 5 * SECONDS, || {
        let answers = asker.answers(&asker.solicitation(first), SECONDS / 2)?;
        anyhow::ensure!(answers.iter().filter(|it| it.solicited).count() == 1, "{answers:?}");
        Ok(())
    });
    entries_are(host, &[one.address(), other.address(), bridge, first, second]);
}
