//! What disturbs a link: floods of many neighbours or of a container, advertisements that are lost, and ports that replace each other.

use std::{
    net::Ipv6Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use sextant_tests::{Asker, Container, Host, MILLISECONDS, SECONDS, Solicitation, cluster::PoolArgs, poll};

use super::{MODES, entries, outsider, port, start, start_in};

/// Wide enough for a scan.
const WIDE: PoolArgs = PoolArgs { prefix: "2001:db8:0:0:8000::/65", host_len: "66", container_len: "80" };
/// So many neighbours scan.
const NEIGHBOURS: u32 = 2000;

/// Sends frames, five each millisecond, until the action ends.
fn during_flood(sender: &Asker, frame: impl Fn(u32) -> Vec<u8> + Sync, action: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !ended.load(Ordering::SeqCst) {
                for _ in 0..5 {
                    // A full queue drops it.
                    let _ = sender.send(&frame(number));
                    number += 1;
                }
                thread::sleep(MILLISECONDS);
            }
        });
        // The flood ends if the action panics, too.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
        ended.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A container gets an address that it checks for duplicates, and is solicited once it may use it.
fn is_found_in_time(container: &Container, address: Ipv6Addr, asker: &Asker) {
    for sysctl in ["accept_dad", "dad_transmits"] {
        container.sysctl(&format!("net/ipv6/conf/eth0/{sysctl}"), "1").unwrap();
    }
    container.ip(&format!("address add {address}/128 dev eth0")).unwrap();
    poll("the address may be used", 5 * SECONDS, || {
        let shown = container.ip(&format!("-6 -o address show dev eth0 to {address}"))?;
        anyhow::ensure!(shown.contains("global") && !shown.contains("tentative"), "{shown}");
        Ok(())
    });
    poll("it is answered for", SECONDS, || {
        asker.ask(&asker.solicitation(address), 100 * MILLISECONDS).map(drop)
    });
}

#[test]
fn floods_keep_no_new_container_from_being_reached() {
    let cluster = start_in("ndp floods", 1, WIDE, &[]);
    let (host, outsider) = (&cluster.hosts[0], outsider(&cluster));
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    let containers = ["a", "b"].map(|name| host.container(name).unwrap());
    let inventor = host.container("i").unwrap();
    let inside = inventor.asker("eth0", inventor.address()).unwrap();
    let first = host.bridge_address().unwrap().0.to_bits();
    let unused = |number: u32| Ipv6Addr::from_bits(first + 0x1_0000 + u128::from(number));
    let scan = |number: u32| {
        let [.., high, low] = (number % NEIGHBOURS).to_be_bytes();
        Solicitation::new([2, 0x77, 0, 0, high, low], asker.source, unused(number)).octets()
    };
    let invent = |number: u32| inside.solicitation(unused(number)).probe().octets();
    for container in &containers {
        poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    }
    let [a, b] = &containers;
    let address = |number: u128| Ipv6Addr::from_bits(first + 0x1000 + number);
    let reader = outsider.asker("eth0", outsider.address()).unwrap();
    during_flood(&asker, scan, || {
        thread::sleep(SECONDS);
        is_found_in_time(a, address(1), &reader);
    });
    during_flood(&inside, invent, || {
        thread::sleep(SECONDS);
        is_found_in_time(b, address(2), &reader);
    });
}

/// The link-layer address at which a neighbour knows it.
fn known_at(outsider: &Host, target: Ipv6Addr) -> Option<String> {
    let shown = outsider.ip(&format!("-6 neighbour show {target}")).unwrap();
    shown.split("lladdr ").nth(1).and_then(|it| it.split(' ').next()).map(str::to_owned)
}

/// The advertisement of a new MAC address does not arrive: the next one does (RFC 4861 §7.2.6).
#[test]
fn a_lost_advertisement_of_an_uplinks_new_mac_address_is_sent_again() {
    const NEW: &str = "02:00:00:00:aa:06";
    for mode in MODES {
        let cluster = start(&format!("ndp lost {mode}"), 1, &["--ndp-mode", mode]);
        let (host, outsider) = (&cluster.hosts[0], outsider(&cluster));
        let container = host.container("c").unwrap();
        let target = container.address();
        poll("it is reached", 5 * SECONDS, || outsider.ping(target)?.replied());
        outsider
            .check(&[
                "nft",
                "add table ip6 lossy; add chain ip6 lossy arriving { type filter hook prerouting priority -300; }; add rule ip6 lossy \
                 arriving icmpv6 type nd-neighbor-advert drop",
            ])
            .unwrap();
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        host.ip(&format!("link set eth0 address {NEW}")).unwrap();
        let end = Instant::now() + 5 * SECONDS;
        // It is on the link before it is dropped.
        while asker.next(end).unwrap().expect("an advertisement").target != target {}
        thread::sleep(50 * MILLISECONDS);
        assert_ne!(known_at(&outsider, target).as_deref(), Some(NEW), "{mode}: it was lost");
        outsider.check(&["nft", "delete table ip6 lossy"]).unwrap();
        poll("its neighbour has the new one", 3 * SECONDS, || {
            let known = known_at(&outsider, target);
            if known.as_deref() == Some(NEW) { Ok(()) } else { Err(format!("{mode}: {known:?}")) }
        });
    }
}

/// A container that has sent nothing comes at the moment at which another one goes, as when it is started again.
#[test]
fn a_silent_container_in_the_place_of_another_is_found() {
    let cluster = start("ndp replaced", 1, &[]);
    let host = &cluster.hosts[0];
    let [one, other] = ["s", "t"].map(|name| host.container(name).unwrap());
    let is_known = |container: &Container, expected: bool| {
        poll("the kernel answers for the one that is there", 10 * SECONDS, || {
            let entries = entries(host);
            let found = entries.contains(&container.address().to_string());
            anyhow::ensure!(found == expected, "{}: {entries:?}", container.address());
            Ok(())
        });
    };
    is_known(&other, true);
    let [port, other_port] = [&one, &other].map(|container| port(host, container));
    host.ip(&format!("link set {other_port} nomaster")).unwrap();
    is_known(&other, false);
    is_known(&one, true);
    let bridge = sextant_tests::BRIDGE;
    host.ip_batch(&format!("link set {port} nomaster\nlink set {other_port} master {bridge}")).unwrap();
    is_known(&one, false);
    is_known(&other, true);
}
