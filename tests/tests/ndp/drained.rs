//! A drain: the answers are the link's route to the containers, and end with the other routes.

use std::net::Ipv6Addr;

use serde_json::Value;
use sextant_tests::{Asker, Container, Host, SECONDS, cluster::Cluster, poll};

use super::{MODES, entries, options, outsider, problems, start};

fn has_entry(host: &Host, container: &Container) {
    poll("the kernel answers for it", 10 * SECONDS, || {
        let found = entries(host);
        anyhow::ensure!(found.contains(&container.address().to_string()), "{found:?}");
        Ok(())
    });
}

fn has_no_entry(host: &Host) {
    poll("the kernel answers for nothing", 5 * SECONDS, || {
        let found = entries(host);
        anyhow::ensure!(found.is_empty(), "{found:?}");
        Ok(())
    });
}

/// Neither a solicitation nor a probe is answered.
fn is_silent(asker: &Asker, target: Ipv6Addr, what: &str) {
    for ask in [asker.solicitation(target), asker.solicitation(target).probe()] {
        let found = asker.answers(&ask, SECONDS / 2).unwrap();
        assert!(found.is_empty(), "{what}: {found:?}");
    }
}

fn explained(cluster: &Cluster, address: Ipv6Addr) -> Value {
    cluster.lab.cli_json(&["explain", &address.to_string()]).unwrap()["ndp"].clone()
}

#[test]
fn a_drained_host_is_not_answered_for_until_it_returns_to_service() {
    for mode in MODES {
        let mut cluster = start(&format!("ndp drained {mode}"), 2, &["--ndp-mode", mode]);
        let outsider = outsider(&cluster);
        let [drained, other] = [0, 1].map(|host| cluster.hosts[host].container("c").unwrap());
        for (host, container) in cluster.hosts.iter().zip([&drained, &other]) {
            poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
            has_entry(host, container);
        }
        cluster.sextant(&["node", "drain", "h1"]);
        has_no_entry(&cluster.hosts[0]);
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        is_silent(&asker, drained.address(), mode);
        outsider.ip("-6 neighbour flush all").unwrap();
        assert!(outsider.ping(drained.address()).unwrap().replied().is_err(), "{mode}");
        outsider.ping(other.address()).unwrap().replied().unwrap();
        assert_eq!(problems(&cluster, "h1"), "[]", "{mode}");
        let ndp = explained(&cluster, drained.address());
        assert_eq!(ndp["why"], "the host is drained", "{ndp}");

        cluster.agents.remove(0).process.kill().unwrap();
        is_silent(&asker, drained.address(), &format!("{mode}, without its agent"));
        cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
        poll("its agent is back", 10 * SECONDS, || {
            let ndp = explained(&cluster, drained.address());
            anyhow::ensure!(ndp["why"] == "the host is drained", "{ndp}");
            Ok(())
        });
        has_no_entry(&cluster.hosts[0]);
        is_silent(&asker, drained.address(), &format!("{mode}, after a restart of its agent"));

        cluster.sextant(&["node", "undrain", "h1"]);
        poll("it is reached again", 5 * SECONDS, || outsider.ping(drained.address())?.replied());
        has_entry(&cluster.hosts[0], &drained);
    }
}

/// The agent answers for addresses that no container has, and the kernel knows nothing of them.
#[test]
fn with_answers_for_all_addresses_a_drained_host_is_silent_too() {
    let cluster = start("ndp drained all", 1, &["--ndp-answer", "all"]);
    let outsider = outsider(&cluster);
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    let target = Ipv6Addr::from_bits(cluster.prefix("h1").addr().to_bits() + 5);
    let is_answered = || {
        poll("it is answered for", 5 * SECONDS, || {
            asker.ask(&asker.solicitation(target), SECONDS / 4).map(drop)
        });
    };
    is_answered();
    cluster.sextant(&["node", "drain", "h1"]);
    has_no_entry(&cluster.hosts[0]);
    is_silent(&asker, target, "drained");
    cluster.sextant(&["node", "undrain", "h1"]);
    is_answered();
}
