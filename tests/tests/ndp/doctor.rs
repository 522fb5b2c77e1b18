//! What breaks it from outside is named, with its fix: by `sextant-agent doctor`, and by the agent where it can see it. Each fault is
//! made for real.

use std::{net::Ipv6Addr, process::Output};

use sextant_tests::{AgentOptions, Host, SECONDS, bin, cluster::Cluster, poll};

use super::{INSIDE, end, options, outsider, problems, start};

pub(super) const NOTHING: &str = "no problems found\n";

/// The words of a command of the agent, with the settings of [`start`].
fn words(cluster: &Cluster, index: usize, more: &[&str]) -> Vec<String> {
    let state = cluster.lab.state_dir(&cluster.hosts[index]).display().to_string();
    let program = bin("sextant-agent").unwrap().display().to_string();
    let fixed = ["--topology", "ndp-proxy", "--uplink", "eth0", "--bridge", "docker0", "--state-dir"];
    let fixed = [program.as_str()].into_iter().chain(fixed).chain([state.as_str()]);
    fixed.chain(more.iter().copied()).map(str::to_owned).collect()
}

/// What the doctor prints on the first host.
pub(super) fn doctor(cluster: &Cluster, more: &[&str]) -> String {
    let words = words(cluster, 0, &[more, &["doctor"]].concat());
    let Output { stdout, stderr, .. } = cluster.hosts[0].run(&words).unwrap();
    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

fn contains(printed: &str, parts: &[&str]) {
    for part in parts {
        assert!(printed.contains(part), "no \"{part}\" in\n{printed}");
    }
}

/// The agent of the first host reports a problem of this kind.
fn reported(cluster: &Cluster, what: &str) -> anyhow::Result<()> {
    let found = problems(cluster, "h1");
    anyhow::ensure!(found.contains(&format!("\"what\":\"{what}\"")), "no {what} in {found}");
    Ok(())
}

/// A host whose container is reached from the link, and the kernel answers for it.
fn reached(test: &str, flags: &[&str]) -> (Cluster, Host, sextant_tests::Container) {
    let cluster = start(test, 1, flags);
    let outsider = outsider(&cluster);
    let container = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    poll("the kernel answers for it", 5 * SECONDS, || {
        let entries = super::entries(&cluster.hosts[0]);
        anyhow::ensure!(entries.contains(&container.address().to_string()), "{entries:?}");
        Ok(())
    });
    (cluster, outsider, container)
}

#[test]
fn on_a_good_host_the_doctor_is_silent_with_and_without_the_agent() {
    let (mut cluster, _outsider, container) = reached("ndp doctor good", &[]);
    assert_eq!(doctor(&cluster, &[]), NOTHING);
    assert_eq!(problems(&cluster, "h1"), "[]");
    cluster.agents.remove(0).process.kill().unwrap();
    assert_eq!(doctor(&cluster, &[]), NOTHING);
    // A container that is gone needs no entry.
    let host = &cluster.hosts[0];
    end(host, &container);
    host.ip(&format!("-6 neighbour del proxy {} dev eth0", container.address())).unwrap();
    assert_eq!(doctor(&cluster, &[]), NOTHING);
}

#[test]
fn settings_and_entries_that_others_change_are_named() {
    let (mut cluster, _outsider, container) = reached("ndp doctor sysctls", &[]);
    cluster.agents.remove(0).process.kill().unwrap();
    let host = &cluster.hosts[0];
    for (sysctl, value) in [
        ("net/ipv6/conf/eth0/proxy_ndp", "0"),
        ("net/ipv6/conf/all/proxy_ndp", "0"),
        ("net/ipv6/neigh/eth0/proxy_delay", "80"),
    ] {
        host.sysctl(sysctl, value).unwrap();
    }
    host.ip(&format!("-6 neighbour del proxy {} dev eth0", container.address())).unwrap();
    let printed = doctor(&cluster, &[]);
    let missing = format!("no proxy entry for 1 address of a container: {} on eth0", container.address());
    contains(
        &printed,
        &[
            "net.ipv6.conf.eth0.proxy_ndp is 0",
            "fix: sysctl -w net.ipv6.conf.eth0.proxy_ndp=1",
            "net.ipv6.conf.all.proxy_ndp is 0",
            "fix: sysctl -w net.ipv6.conf.all.proxy_ndp=1",
            "net.ipv6.neigh.eth0.proxy_delay is 80",
            "fix: sysctl -w net.ipv6.neigh.eth0.proxy_delay=0",
            &missing,
            "problems to fix: 4",
        ],
    );
    // An agent restores them.
    cluster.start_agent_with(0, options(&[]));
    cluster.settle();
    poll("all is well again", 10 * SECONDS, || {
        let printed = doctor(&cluster, &[]);
        anyhow::ensure!(printed == NOTHING, "{printed}");
        Ok(())
    });
}

#[test]
fn what_a_paused_agent_does_not_restore_is_a_problem() {
    let (cluster, _outsider, container) = reached("ndp paused", &[]);
    cluster.sextant(&["pause"]);
    poll("the agent is paused", 5 * SECONDS, || {
        let log = cluster.agents[0].process.log();
        anyhow::ensure!(log.contains("paused by an operator"), "{log}");
        Ok(())
    });
    cluster.hosts[0].ip(&format!("-6 neighbour del proxy {} dev eth0", container.address())).unwrap();
    poll("the missing entry is reported", 15 * SECONDS, || reported(&cluster, "ndp-entry-missing"));
    cluster.sextant(&["resume"]);
    poll("it is restored", 15 * SECONDS, || {
        let found = problems(&cluster, "h1");
        anyhow::ensure!(found == "[]", "{found}");
        Ok(())
    });
}

#[test]
fn an_agent_without_the_privilege_is_named() {
    let mut cluster = Cluster::without_agents("ndp doctor privilege", 1, INSIDE);
    let under = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"].map(str::to_owned).to_vec();
    cluster.start_agent_with(0, AgentOptions { under, ..options(&[]) });
    poll("it is reported", 15 * SECONDS, || reported(&cluster, "ndp-not-heard"));
    let (code, ready) = cluster.agents[0].http("/readyz").unwrap();
    assert!(code == 503 && ready.contains("neighbour discovery on eth0 cannot be heard"), "{code} {ready}");
    let named = ["sextant-agent (process ", "has no CAP_NET_RAW", "fix: add CAP_NET_RAW"];
    contains(&doctor(&cluster, &[]), &named);
}

/// Silence that it could not hear is no sign that the container is gone.
#[test]
fn an_agent_that_hears_nothing_takes_no_address_out_of_use() {
    let (mut cluster, outsider, container) = reached("ndp deaf", &[]);
    cluster.agents.remove(0).process.kill().unwrap();
    let under = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"].map(str::to_owned).to_vec();
    cluster.start_agent_with(0, AgentOptions { under, ..options(&[]) });
    poll("it is reported", 15 * SECONDS, || reported(&cluster, "ndp-not-heard"));
    let entries = || super::entries(&cluster.hosts[0]);
    let address = container.address().to_string();
    assert!(entries().contains(&address), "{:?}", entries());
    outsider.ip("-6 neighbour flush dev eth0").unwrap();
    outsider.ping(container.address()).unwrap().replied().unwrap();
    assert!(entries().contains(&address), "{:?}", entries());
}

#[test]
fn another_proxy_on_this_host_is_named_if_it_answers_for_the_same_addresses() {
    let mut cluster = Cluster::without_agents("ndp doctor ndppd", 1, INSIDE);
    let config = cluster.lab.dir().join("ndppd.conf");
    let rule = |prefix: &str| {
        let text = format!("proxy eth0 {{\n  router yes\n  rule {prefix} {{\n    static\n  }}\n}}\n");
        std::fs::write(&config, text).unwrap();
    };
    rule("2001:db8::c000/116");
    let ndppd = ["ndppd", "-c", config.to_str().unwrap()];
    let _ndppd = cluster.hosts[0].spawn("ndppd", &ndppd).unwrap();
    cluster.start_agent_with(0, options(&[]));
    cluster.settle();
    poll("the agent reports it", 10 * SECONDS, || reported(&cluster, "ndp-other-proxy"));
    contains(&doctor(&cluster, &[]), &["ndppd (process ", "rule 2001:db8::c000/116 in ", "fix: stop ndppd"]);
    rule("2001:db8:1::/64");
    assert_eq!(doctor(&cluster, &[]), NOTHING, "its rules are for other addresses");
}

#[test]
fn another_host_that_answers_for_the_same_address_is_named() {
    let (cluster, outsider, container) = reached("ndp doctor other", &[]);
    outsider.sysctl("net/ipv6/conf/eth0/proxy_ndp", "1").unwrap();
    outsider.sysctl("net/ipv6/neigh/eth0/proxy_delay", "0").unwrap();
    outsider.ip(&format!("-6 neighbour add proxy {} dev eth0", container.address())).unwrap();
    let named = format!("advertises {}, which is a container's of this host", container.address());
    contains(&doctor(&cluster, &[]), &["the host with MAC address 02:00:", &named, "fix: find that host"]);
    poll("the agent has heard it, too", 5 * SECONDS, || reported(&cluster, "ndp-other-answers"));
}

/// The kernel answers by it, though no container has the address.
#[test]
fn an_entry_of_another_process_for_an_address_that_is_not_in_use_is_named() {
    let (cluster, outsider, _container) = reached("ndp doctor foreign", &[]);
    let unused = Ipv6Addr::from_bits(cluster.prefix("h1").addr().to_bits() + 6);
    let host = &cluster.hosts[0];
    host.ip(&format!("-6 neighbour add proxy {unused} dev eth0")).unwrap();
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    poll("it is answered for", 5 * SECONDS, || asker.ask(&asker.solicitation(unused), SECONDS).map(drop));
    poll("the agent reports it", 10 * SECONDS, || reported(&cluster, "ndp-foreign-entry"));
    let fix = format!("`ip -6 neighbour del proxy {unused} dev eth0`");
    contains(&doctor(&cluster, &[]), &["for 1 address of this host's prefixes", &fix]);
    assert!(super::entries(host).contains(&unused.to_string()), "it is left alone");
}

/// A provider that drops advertisements which do not come from the advertised address.
#[test]
fn answers_that_do_not_arrive_are_named_with_the_setting() {
    let (mut cluster, outsider, container) = reached("ndp doctor filter", &[]);
    let host = cluster.hosts[0].clone();
    let own = host.ip("-6 -o address show dev eth0").unwrap();
    let own: Vec<_> =
        own.split_whitespace().filter_map(|word| word.split('/').next()?.parse::<Ipv6Addr>().ok()).collect();
    let own: Vec<_> = own.iter().map(ToString::to_string).collect();
    let rules = format!(
        "add table ip6 provider; add chain ip6 provider arriving {{ type filter hook prerouting priority -300; }}; add rule ip6 provider \
         arriving icmpv6 type nd-neighbor-advert ip6 saddr {{ {} }} drop",
        own.join(", ")
    );
    outsider.check(&["nft", &rules]).unwrap();
    outsider.ip("-6 neighbour flush all").unwrap();
    let target = container.address().to_string();
    let _asking = outsider.spawn("asking", &["ping", "-6", "-n", "-i", "0.5", &target]).unwrap();
    poll("the agent reports it", 30 * SECONDS, || reported(&cluster, "ndp-unheeded"));
    assert!(outsider.ping(container.address()).unwrap().replied().is_err());
    let said = format!("goes on soliciting {target}");
    contains(&doctor(&cluster, &[]), &[&said, "set [ndp] source = \"target\" in agent.toml"]);

    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    cluster.start_agent_with(0, options(&["--ndp-source", "target"]));
    cluster.settle();
    poll("it is reached with that setting", 10 * SECONDS, || outsider.ping(container.address())?.replied());
    poll("nothing is reported any more", 25 * SECONDS, || {
        let (found, printed) = (problems(&cluster, "h1"), doctor(&cluster, &["--ndp-source", "target"]));
        anyhow::ensure!(found == "[]" && printed == NOTHING, "{found} {printed}");
        Ok(())
    });
}

/// A bridge of Linux that listens to MLD sends everything everywhere until it has heard a querier: no fault.
#[test]
fn an_uplink_that_is_a_bridge_without_a_querier_is_no_fault() {
    let mut cluster = Cluster::without_agents("ndp bridge uplink", 1, INSIDE);
    let host = &cluster.hosts[0];
    host.ip("link add up0 type bridge mcast_snooping 1 mcast_querier 0").unwrap();
    host.ip("address flush dev eth0 scope global").unwrap();
    host.ip("link set eth0 master up0").unwrap();
    host.ip("link set up0 up").unwrap();
    host.ip(&format!("address add {}/64 dev up0 nodad", host.address())).unwrap();
    cluster.start_agent_with(0, AgentOptions { uplink: "up0".into(), ..options(&[]) });
    cluster.settle();
    let outsider = outsider(&cluster);
    let container = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 10 * SECONDS, || outsider.ping(container.address())?.replied());
    let words: Vec<_> = words(&cluster, 0, &["doctor"])
        .into_iter()
        .map(|it| if it == "eth0" { "up0".into() } else { it })
        .collect();
    let printed = cluster.hosts[0].run(&words).unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout), NOTHING);
    assert_eq!(problems(&cluster, "h1"), "[]");
}
