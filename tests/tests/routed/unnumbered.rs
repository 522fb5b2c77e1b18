//! Sessions over link-local addresses: with a router of which only the interface is known, or its link-local address.

use std::{net::Ipv6Addr, path::Path};

use anyhow::Context;
use sextant_tests::{Namespace, Process, SECONDS, poll, try_poll};

use crate::bgp::Speakers;

/// Starts the agent of host `index` towards this `place` of its neighbour, with more lines for that.
fn start(it: &mut Speakers, index: usize, place: &str, more: &str) {
    let path = it.site.cluster.lab.dir().join(format!("unnumbered-{index}.toml"));
    let text = format!(
        "[bgp]\nlocal-as = {}\n[[bgp.neighbour]]\n{place}\nremote-as = 65000\nhold-time = 9\n{more}\n",
        65001 + index
    );
    std::fs::write(&path, text).unwrap();
    it.site.start_host(index, &["--config", &path.display().to_string()]);
}

fn link_local(namespace: &Namespace, interface: &str) -> Ipv6Addr {
    poll(&format!("a link-local address of {interface}"), 10 * SECONDS, || {
        let shown = namespace.ip(&format!("-6 -o address show dev {interface} scope link -tentative"))?;
        let address = shown.split_whitespace().skip_while(|word| *word != "inet6").nth(1).context("none")?;
        Ok::<Ipv6Addr, anyhow::Error>(address.split('/').next().unwrap_or_default().parse()?)
    })
}

/// Waits until the router's kernel has the prefixes of h1 and h3, each by the address that `hop` says of its host.
fn learns(it: &Speakers, hop: impl Fn(usize) -> Ipv6Addr) {
    for index in [0, 2] {
        let (prefix, hop) = (it.prefix(index).to_string(), format!(" via {} ", hop(index)));
        poll(&format!("the router has {prefix}{hop}"), 40 * SECONDS, || {
            let output = it.site.router.ip("-6 route")?;
            let has = output.lines().any(|line| line.contains(&prefix) && line.contains(&hop));
            if has { Ok(()) } else { anyhow::bail!(output) }
        });
    }
}

#[test]
fn frr_and_a_host_find_each_other_on_a_link_watch_it_and_the_host_has_its_default_route() {
    let mut it = Speakers::new("unnumbered: frr");
    let neighbours = ["eth0", "eth1"]
        .map(|name| {
            format!(" neighbor {name} interface remote-as external\n neighbor {name} bfd 3 100 100\n")
        })
        .concat();
    let active = ["eth0", "eth1"]
        .map(|name| format!("  neighbor {name} activate\n  neighbor {name} default-originate\n"))
        .concat();
    let config = format!(
        "router bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n\
         {neighbours} address-family ipv6 unicast\n{active} exit-address-family\nexit\n"
    );
    let _frr = it.site.router.frr_with(&config).unwrap();
    for index in [0, 2] {
        start(&mut it, index, "interface = \"eth0\"", "bfd = true\nimport = \"default\"");
    }
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    learns(&it, |index| link_local(it.host(index), "eth0"));
    let router = link_local(&it.site.router, "eth0");
    it.says(0, &format!("{router}%eth0"));
    it.says(0, "  up  ");
    // FRR tells both of its addresses; the global one is on-link.
    let expected = "default via 2001:db8::fe:1 dev eth0 proto 66 metric 768";
    poll("h1 has the router's default route", 20 * SECONDS, || {
        let output = it.host(0).ip("-6 route")?;
        if output.contains(expected) { Ok(()) } else { anyhow::bail!("{output}\nexpected: {expected}") }
    });
}

/// The host's link has only link-local addresses, as the router's; the global addresses are those of the loopback interfaces.
#[test]
fn an_unnumbered_host_is_announced_and_has_the_default_route_of_an_unnumbered_router() {
    let mut it = Speakers::new("unnumbered: no global address");
    let (host, router) = (it.host(0).clone(), it.site.router.clone());
    // The controller is reached through the router, too.
    let (own, near, far) = (host.address(), link_local(&host, "eth0"), link_local(&router, "eth0"));
    host.ip_batch(&format!(
        "address del {own}/64 dev eth0\naddress add {own}/128 dev lo nodad
         route flush default\nroute add 2001:db8::c:0/112 via {far} dev eth0 src {own} proto static"
    ))
    .unwrap();
    router.ip(&format!("-6 route add {own}/128 via {near} dev eth0")).unwrap();
    router.ip(&format!("-6 address del {}/64 dev eth0", router.address())).unwrap();
    router.ip(&format!("-6 address add {}/128 dev lo nodad", router.address())).unwrap();
    router.ip("-6 route add 2001:db8::c:0/112 dev eth0").unwrap();
    let switch = it.site.cluster.lab.switch();
    switch.ip(&format!("-6 route add {own}/128 via {far} dev br0")).unwrap();
    let config = "router bgp 65000\n bgp router-id 192.0.2.200\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n \
         neighbor eth0 interface remote-as external\n address-family ipv6 unicast\n  neighbor eth0 activate\n  \
         neighbor eth0 default-originate\n exit-address-family\nexit\n";
    let _frr = it.site.router.frr_with(config).unwrap();
    start(&mut it, 0, "interface = \"eth0\"", "import = \"default\"");
    it.site.becomes("h1", "ready");
    assert_eq!(it.site.cluster.node("h1")["next_hops"][0], own.to_string());
    let prefix = it.prefix(0);
    poll("the router has the prefix", 40 * SECONDS, || {
        let output = router.ip("-6 route")?;
        let learnt = output.contains(&format!("{prefix} ")) && output.contains(&format!(" via {near} "));
        if learnt { Ok(()) } else { anyhow::bail!(output) }
    });
    let expected = format!("default via {far} dev eth0 proto 66 metric 768");
    poll("the host has the router's default route", 40 * SECONDS, || {
        let output = host.ip("-6 route")?;
        if output.contains(&expected) { Ok(()) } else { anyhow::bail!("{output}\nexpected: {expected}") }
    });
}

#[test]
fn bird_and_a_host_speak_over_the_configured_link_local_addresses() {
    let mut it = Speakers::new("unnumbered: bird");
    let session = |index: usize, interface: &str| {
        format!(
            "protocol bgp {{ local as 65000; neighbor {}%{interface} as {}; connect delay time 1;
             connect retry time 1; error wait time 1, 2; ipv6 {{ import all; export none; }}; }}\n",
            link_local(it.host(index), "eth0"),
            65001 + index
        )
    };
    let config = format!(
        "router id 192.0.2.200; protocol device {{ }}
         protocol kernel {{ scan time 1; ipv6 {{ import none; export all; }}; }}\n{}{}",
        session(0, "eth0"),
        session(2, "eth1")
    );
    let bird = it.site.router.bird_with(&config).unwrap();
    for (index, interface) in [(0, "eth0"), (2, "eth1")] {
        let place = format!("address = \"{}%eth0\"", link_local(&it.site.router, interface));
        start(&mut it, index, &place, "");
    }
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    learns(&it, |index| it.host(index).address());
    let output = bird.ask("show route all").unwrap();
    assert!(output.contains("BGP.next_hop: 2001:db8::1 fe80::"), "the global one too (RFC 2545): {output}");
}

/// GoBGP looks into the kernel's neighbour table when it starts, wants to see just one router or host there, and ends if
/// it does not.
fn gobgp_that_finds(it: &Speakers, interface: &str, neighbour: Ipv6Addr, config: &Path) -> Process {
    let router = &it.site.router;
    let only = neighbour.to_string();
    poll("GoBGP runs", 30 * SECONDS, || {
        router.check(&["ping", "-c1", "-W1", &format!("{only}%{interface}")])?;
        let shown = router.ip(&format!("-6 neighbour show dev {interface}"))?;
        for other in shown.lines().filter_map(|line| line.split(' ').next()).filter(|it| *it != only) {
            router.ip(&format!("-6 neighbour delete {other} dev {interface}"))?;
        }
        let gobgpd = router.spawn("gobgpd", &["gobgpd", "-f", &config.display().to_string()])?;
        let answered = try_poll(10 * SECONDS, || {
            if gobgpd.ended()?.is_some() {
                return Ok(false);
            }
            router.check(&["gobgp", "global"]).map(|_| true)
        })?;
        if answered { Ok(gobgpd) } else { anyhow::bail!("it ended: {}", gobgpd.log()) }
    })
}

#[test]
fn gobgp_knows_one_host_by_address_and_finds_the_only_one_on_a_link() {
    let mut it = Speakers::new("unnumbered: gobgp");
    for (index, interface) in [(0, "eth0"), (2, "eth1")] {
        let place = format!("address = \"{}%eth0\"", link_local(&it.site.router, interface));
        start(&mut it, index, &place, "passive = true");
        let host = format!("{}%{interface}", link_local(it.host(index), "eth0"));
        poll("the router sees the host", 10 * SECONDS, || {
            it.site.router.check(&["ping", "-c1", "-W1", &host])
        });
    }
    let sessions = [
        (format!("neighbor-address = \"{}%eth0\"", link_local(it.host(0), "eth0")), 65001),
        ("neighbor-interface = \"eth1\"".to_owned(), 65003),
    ]
    .map(|(place, remote)| {
        format!(
            "[[neighbors]]\n[neighbors.config]\n{place}\npeer-as = {remote}\n\
             [neighbors.timers.config]\nconnect-retry = 5\n[[neighbors.afi-safis]]\n\
             [neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n"
        )
    })
    .concat();
    let config = it.site.cluster.lab.dir().join("gobgpd.toml");
    let global = "[global.config]\nas = 65000\nrouter-id = \"192.0.2.200\"\nlocal-address-list = [\"::\"]\n";
    std::fs::write(&config, format!("{global}{sessions}")).unwrap();
    let _gobgpd = gobgp_that_finds(&it, "eth1", link_local(it.host(2), "eth0"), &config);
    ["h1", "h3"].into_iter().for_each(|host| it.site.becomes(host, "ready"));
    for index in [0, 2] {
        let prefix = it.prefix(index).to_string();
        poll(&format!("GoBGP has {prefix}"), 40 * SECONDS, || {
            let output = it.site.router.check(&["gobgp", "global", "rib", "-a", "ipv6"])?;
            if output.contains(&prefix) { Ok(()) } else { anyhow::bail!(output) }
        });
    }
}
