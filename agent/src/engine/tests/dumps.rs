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
            dumps if dumps.contains(&Scope::Advertised) && dumps.contains(&Scope::Table(254)) => all += 1,
            others => panic!("{others:?}"),
        }
    }
    assert_eq!(all, 2);
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
