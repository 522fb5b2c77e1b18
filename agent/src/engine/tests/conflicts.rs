//! Routes of other processes that take packets from ours are reported as soon as they are there.

use super::*;

fn foreign(destination: &str, target: RouteTarget) -> Route {
    let key = RouteKey { table: 254, destination: destination.parse().unwrap(), metric: 1024 };
    Route { mtu: None, key, protocol: RouteProtocol(4), target }
}

/// What is reported, soon.
async fn conflicts(it: &Fixture) -> Vec<String> {
    tokio::time::sleep(SOON / 2).await;
    it.report.borrow().conflicts.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_route_inside_of_a_peers_prefix_is_reported_until_it_is_gone() {
    let mut it = Fixture::start();
    it.tell(5, &[2, 3], false);
    it.applied(5).await;
    let inside = prefix(2).nth(prefix(2).len() + 8, 5).unwrap();
    let hop = |gateway: &str| {
        let via = crate::kernel::NextHop { gateway: Some(gateway.parse().unwrap()), link: 2, onlink: false };
        RouteTarget::Via(via.into())
    };
    for (target, shown) in
        [(hop("2001:db8::99"), "via 2001:db8::99 dev eth0"), (RouteTarget::BLACKHOLE, "blackhole")]
    {
        let route = foreign(&inside.to_string(), target);
        it.kernel.foreign_add(route.clone()).unwrap();
        let expected = format!("{inside} proto static metric 1024 {shown}: theirs wins over {}", prefix(2));
        assert_eq!(conflicts(&it).await, [expected]);
        it.kernel.foreign_remove(route.key).unwrap();
        assert_eq!(conflicts(&it).await, [""; 0]);
    }
    it.kernel.foreign_add(foreign(&inside.to_string(), hop("2001:db8::2"))).unwrap();
    assert_eq!(conflicts(&it).await, [""; 0], "it leads the same way");
    it.kernel.foreign_replace(foreign(&inside.to_string(), hop("2001:db8::99"))).unwrap();
    assert_eq!(conflicts(&it).await.len(), 1, "and now it does not");
}
