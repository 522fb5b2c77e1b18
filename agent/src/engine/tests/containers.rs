//! Links of containers, and host state that another process changes.

use super::*;

const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

fn sysctl(it: &Fixture, path: &str) -> Option<String> {
    it.kernel.sysctl(path).unwrap()
}

#[tokio::test(start_paused = true)]
async fn links_of_containers_do_not_have_a_failed_route_tried_again() {
    let mut it = Fixture::start();
    it.kernel.fail_destination(prefix(2), 113);
    it.tell(5, &[2], false);
    it.applied(5).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    it.kernel.take_writes();
    for n in 0..100 {
        let link = it.kernel.add_link(&format!("veth{n}"));
        it.kernel.change_link(link, |link| (link.kind, link.controller) = ("veth".into(), Some(3)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        it.kernel.remove_link(link);
    }
    let tried = |write: &Write| matches!(write, Write::Route(..));
    let tries = it.kernel.take_writes().iter().filter(|write| tried(write)).count();
    assert!(tries <= 1, "{tries} tries within 10 s, with a delay of 60 s");
    // An uplink that changes is worth a try at once.
    it.kernel.heal_destination(prefix(2));
    it.kernel.change_link(2, |link| link.carrier = false);
    it.kernel.change_link(2, |link| link.carrier = true);
    tokio::time::sleep(SOON).await;
    it.expect(&[2]);
}

#[tokio::test(start_paused = true)]
async fn i13_forwarding_is_restored_at_its_event_and_accept_ra_at_the_next_look() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    it.kernel.put_sysctl(FORWARDING, "0");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(sysctl(&it, FORWARDING).as_deref(), Some("1"));
    for (link, changed, right) in [("eth0", "1", "2"), ("docker0", "2", "0")] {
        let path = format!("net/ipv6/conf/{link}/accept_ra");
        assert_eq!(sysctl(&it, &path).as_deref(), Some(right));
        it.kernel.put_sysctl(&path, changed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(sysctl(&it, &path).as_deref(), Some(right), "{link}");
    }
    it.kernel.take_writes();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(it.kernel.writes(), [], "all is right");
}

#[tokio::test(start_paused = true)]
async fn a_bridge_of_another_engine_gets_accept_ra_0_when_it_comes_and_an_uplinks_bridge_does_not() {
    let mut it = Fixture::start();
    let br0 = it.kernel.add_bridge("br0");
    it.kernel.change_link(2, |link| link.controller = Some(br0));
    it.tell(5, &[2], false);
    it.applied(5).await;
    let other = it.kernel.add_bridge("br-x");
    let port = it.kernel.add_link("veth1");
    it.kernel.change_link(port, |link| (link.kind, link.controller) = ("veth".into(), Some(other)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let accept_ra = |link: &str| sysctl(&it, &format!("net/ipv6/conf/{link}/accept_ra")).unwrap();
    assert_eq!(
        ["br-x", "veth1", "docker0", "br0", "eth0"].map(accept_ra),
        ["0", "0", "0", "1", "2"].map(str::to_owned)
    );
}

fn neighbours(it: &Fixture, link: &str) -> [String; 2] {
    ["retrans_time_ms", "unres_qlen_bytes"]
        .map(|name| sysctl(it, &format!("net/ipv6/neigh/{link}/{name}")).unwrap())
}

#[tokio::test(start_paused = true)]
async fn neighbours_of_each_bridge_with_containers_are_limited_and_those_of_uplinks_are_not() {
    let mut it = Fixture::start();
    let br0 = it.kernel.add_bridge("br0");
    it.kernel.change_link(2, |link| link.controller = Some(br0));
    it.kernel.add_bridge("br-x");
    let retrans = |link: &str| format!("net/ipv6/neigh/{link}/retrans_time_ms");
    it.kernel.put_sysctl(&retrans("br-x"), "50");
    it.tell(5, &[2], false);
    it.applied(5).await;
    let (limited, default) = (["100", "65536"], ["1000", "212992"]);
    assert_eq!(neighbours(&it, "docker0"), limited);
    assert_eq!(neighbours(&it, "br-x"), ["50", "65536"], "an operator's lower value stays");
    assert_eq!(
        (neighbours(&it, "br0"), neighbours(&it, "eth0")),
        (default.map(Into::into), default.map(Into::into))
    );
    it.kernel.add_bridge("br-y");
    it.kernel.put_sysctl(&retrans("docker0"), "1000");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (neighbours(&it, "docker0"), neighbours(&it, "br-y")),
        (limited.map(Into::into), limited.map(Into::into))
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_cannot_be_set_is_reported_and_the_host_works_without_it() {
    let mut it = Fixture::start();
    it.kernel.refuse_sysctl("net/ipv6/neigh/docker0/retrans_time_ms");
    it.tell(5, &[2], false);
    it.applied(5).await;
    it.expect(&[2]);
    assert_eq!(neighbours(&it, "docker0"), ["1000", "65536"]);
    let problems = it.problems.watch().borrow().problems();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.what, "neighbours-not-limited");
    assert!(problem.fix.contains("sysctl -w net.ipv6.neigh.docker0.retrans_time_ms=100"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_announce_its_uplinks_new_mac_address_is_reported_and_works() {
    let mut it = Fixture::start();
    let path = "net/ipv6/conf/eth0/ndisc_notify";
    it.kernel.refuse_sysctl(path);
    it.tell(5, &[2], false);
    it.applied(5).await;
    it.expect(&[2]);
    assert_eq!(sysctl(&it, path).as_deref(), Some("0"));
    let problems = it.problems.watch().borrow().problems();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.what, "link-layer-not-announced");
    assert!(problem.fix.contains("sysctl -w net.ipv6.conf.eth0.ndisc_notify=1"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_needed_sysctl_that_cannot_be_set_is_reported_with_the_value_to_set() {
    let mut it = Fixture::start();
    it.kernel.refuse_sysctl("net/ipv6/conf/docker0/accept_ra");
    it.tell(5, &[2], false);
    it.applied(5).await;
    let problems = it.problems.watch().borrow().problems();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.what, "host-setup-refused");
    assert!(
        problem.saw.contains("docker0/accept_ra cannot be set to 0: Read-only file system"),
        "{problem:?}"
    );
    assert!(problem.fix.contains("sysctl -w net/ipv6/conf/docker0/accept_ra=0"), "{problem:?}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_while_its_link_is_set_up_is_no_fault_of_the_host() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    it.kernel.lose_sysctl("net/ipv6/conf/veth0/accept_ra");
    let link = it.kernel.add_link("veth0");
    it.kernel.change_link(link, |link| (link.kind, link.controller) = ("veth".into(), Some(3)));
    tokio::time::sleep(SOON).await;
    let writes = it.kernel.writes();
    let tried = |write: &Write| matches!(write, Write::SetSysctl(path, _) if path.contains("veth0"));
    assert!(writes.iter().any(tried), "{writes:?}");
    assert_eq!(it.problems.watch().borrow().problems(), []);
}

/// A lookup of an address in the container prefix finds the route of another link inside of it.
#[tokio::test(start_paused = true)]
async fn a_connected_route_beside_a_longer_one_of_another_link_is_there() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    let other = it.kernel.add_bridge("br-x");
    it.kernel.put_address(crate::kernel::fake::permanent(other, prefix(1).last_addr(), 96));
    tokio::time::sleep(SOON * 5).await;
    it.kernel.take_writes();
    it.kernel.put_sysctl("net/ipv6/conf/all/forwarding", "0");
    tokio::time::sleep(SOON * 60).await;
    let writes = it.kernel.writes();
    assert!(writes.iter().any(|write| matches!(write, Write::SetSysctl(..))), "it was looked at: {writes:?}");
    assert!(!writes.iter().any(|write| matches!(write, Write::RenewAddress(..))), "{writes:?}");
}
