//! How often the kernel walks through all of its routes for the agent.

use super::*;
use crate::kernel::{NextHop, Scope};

fn resync() -> Duration {
    Duration::from_secs(SETTINGS.resync_secs.into())
}

#[tokio::test(start_paused = true)]
async fn a_resync_walks_through_the_kernels_routes_once_and_each_tenth_reads_all() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    tokio::time::sleep(resync() / 2).await;
    let mut all = 0;
    for _ in 0..20 {
        it.kernel.take_route_dumps();
        tokio::time::sleep(resync()).await;
        match &it.kernel.take_route_dumps()[..] {
            [Scope::Ours] => {}
            dumps if dumps.contains(&Scope::Table(254)) => {
                assert!(!dumps.contains(&Scope::Advertised), "the table has them: {dumps:?}");
                all += 1;
            }
            others => panic!("{others:?}"),
        }
    }
    assert_eq!(all, 2);
}

/// The kernel's walks for routes by router advertisement alone, until the host has settled and a link has come.
async fn walks_for_advertised(it: &mut Fixture) -> usize {
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    it.kernel.add_link("eth7");
    tokio::time::sleep(SOON).await;
    it.kernel.take_route_dumps().iter().filter(|scope| **scope == Scope::Advertised).count()
}

#[tokio::test(start_paused = true)]
async fn routes_by_advertisement_are_read_with_the_others_and_not_again_for_a_new_link() {
    assert_eq!(walks_for_advertised(&mut Fixture::start()).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_vrf_has_routes_by_advertisement_in_a_table_of_its_own() {
    let mut it = Fixture::start();
    let vrf = it.kernel.add_link("blue");
    it.kernel.change_link(vrf, |link| link.kind = "vrf".into());
    assert_ne!(walks_for_advertised(&mut it).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_link_with_a_new_route_by_advertisement_keeps_it_from_the_next_resync_on() {
    let mut it = Fixture::start();
    let link = it.kernel.add_link("eth1");
    it.tell(5, &[2], false);
    it.applied(5).await;
    let accept_ra = || it.kernel.sysctl("net/ipv6/conf/eth1/accept_ra").unwrap();
    tokio::time::sleep(resync() * 2).await;
    assert_eq!(accept_ra().as_deref(), Some("1"));
    let route = Route {
        mtu: None,
        key: RouteKey { table: 254, destination: "2001:db8:77::/64".parse().unwrap(), metric: 1024 },
        protocol: RouteProtocol::ADVERTISED,
        target: RouteTarget::Via(NextHop { gateway: "fe80::99".parse().ok(), link, onlink: false }.into()),
    };
    it.kernel.foreign_add(route).unwrap();
    tokio::time::sleep(resync() + SOON).await;
    assert_eq!(accept_ra().as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_bridges_missing_connected_route_comes_back_whatever_a_longer_route_says() {
    let mut it = Fixture::start();
    it.tell(5, &[2], false);
    it.applied(5).await;
    let container = prefix(1).last_addr();
    let longer = Route {
        mtu: None,
        key: RouteKey { table: 254, destination: Prefix::new(container, 128).unwrap(), metric: 1024 },
        protocol: RouteProtocol(4),
        target: RouteTarget::Unreachable,
    };
    it.kernel.foreign_add(longer).unwrap();
    let connected = |it: &Fixture| {
        let all = it.kernel.all_routes();
        all.into_iter()
            .find(|route| route.protocol == RouteProtocol::KERNEL && prefix(1).covers(route.key.destination))
    };
    it.kernel.take_writes();
    tokio::time::sleep(resync() * 2).await;
    assert_eq!(it.kernel.take_writes(), [], "the longer route is another's, and the connected one stands");
    let gone = connected(&it).expect("the bridge has its connected route");
    it.kernel.foreign_remove(gone.key).unwrap();
    tokio::time::sleep(resync() * 2).await;
    assert_eq!(connected(&it), Some(gone));
}
