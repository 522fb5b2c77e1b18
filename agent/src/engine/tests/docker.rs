//! Beside a container engine: its routes, and what it changes when it starts.

use super::*;
use crate::kernel::NextHop;

/// What the other tasks say of the engine.
struct Docker {
    bridges: watch::Sender<crate::containers::Bridges>,
    away: watch::Sender<bool>,
    left: watch::Sender<BTreeSet<Prefix>>,
    routes: watch::Receiver<Arc<Vec<Route>>>,
}

/// A host whose agent keeps a network of Docker on `docker0`, and a link for another network.
async fn beside_docker() -> (Fixture, Docker, u32) {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    kernel.put_sysctl("net/ipv6/conf/all/forwarding", "0");
    kernel.put_sysctl("net/ipv6/conf/eth0/accept_ra", "1");
    let other = kernel.add_bridge("custom");
    let (bridges, away, left) =
        (watch::Sender::default(), watch::Sender::new(false), watch::Sender::default());
    let docker = crate::settings::tests::settings(&["--docker-mode", "network"]).unwrap().docker;
    let mut routes = None;
    let beside = |engine: Engine| {
        let engine = engine.beside(bridges.subscribe(), away.subscribe()).removing(left.subscribe());
        routes = Some(engine.boot_routes());
        engine
    };
    let (dir, settings) = (Arc::new(tempfile::tempdir().unwrap()), Settings { docker, ..settings() });
    let mut it = Fixture::with(kernel, dir, Heartbeat::unwatched(), settings, beside);
    it.tell(5, &[2], false);
    it.applied(5).await;
    (it, Docker { bridges, away, left, routes: routes.unwrap() }, other)
}

async fn bridge(it: &Fixture) -> u32 {
    it.kernel.links().await.unwrap().into_iter().find(|link| link.name == "docker0").unwrap().index
}

/// A route as Docker makes them.
fn boot(destination: Prefix, link: u32) -> Route {
    Route {
        mtu: None,
        key: RouteKey { table: 254, destination, metric: 1024 },
        protocol: RouteProtocol::BOOT,
        target: RouteTarget::Via(NextHop { gateway: None, link, onlink: false }.into()),
    }
}

/// A container prefix of another node.
fn theirs(n: u8) -> Prefix {
    prefix(n).nth(prefix(n).len() + 8, 0).unwrap()
}

async fn soon() {
    tokio::time::sleep(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_the_engine_left_of_a_former_network_is_removed() {
    let (it, docker, other) = beside_docker().await;
    let bridge = bridge(&it).await;
    let (former, kept) = (theirs(2), [boot(theirs(3), bridge), boot(theirs(4), other)]);
    it.kernel.foreign_add(boot(former, bridge)).unwrap();
    kept.iter().for_each(|route| it.kernel.foreign_add(route.clone()).unwrap());
    soon().await;
    assert!(it.kernel.route(boot(former, bridge).key).is_some(), "a network may have it");
    docker.left.send_replace([former, theirs(4)].into());
    soon().await;
    assert!(it.kernel.route(boot(former, bridge).key).is_none());
    for route in &kept {
        assert!(it.kernel.route(route.key).is_some(), "another prefix, or another bridge: {route:?}");
    }
    // An engine puts it there again when it starts.
    it.kernel.foreign_add(boot(former, bridge)).unwrap();
    soon().await;
    assert!(it.kernel.route(boot(former, bridge).key).is_none());
    assert_eq!(docker.routes.borrow().to_vec(), kept, "it is known to be gone");
}

#[tokio::test(start_paused = true)]
async fn the_own_prefix_and_routes_of_other_protocols_stay() {
    let (it, docker, _) = beside_docker().await;
    let bridge = bridge(&it).await;
    let own = it.input.borrow().claims[0].container_prefix();
    let by_hand = Route { protocol: RouteProtocol(4), ..boot(theirs(2), bridge) };
    it.kernel.foreign_add(boot(own, bridge)).unwrap();
    it.kernel.foreign_add(by_hand.clone()).unwrap();
    docker.left.send_replace([own, theirs(2)].into());
    soon().await;
    assert!(it.kernel.route(boot(own, bridge).key).is_some() && it.kernel.route(by_hand.key).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_route_of_the_engine_is_no_conflict_and_one_of_others_is() {
    let (it, docker, other) = beside_docker().await;
    let bridge = bridge(&it).await;
    let conflicts = || it.report.borrow().conflicts.len();
    for protocol in [RouteProtocol::BOOT, RouteProtocol::KERNEL] {
        let route = Route { protocol, ..boot(theirs(2), bridge) };
        it.kernel.foreign_add(route.clone()).unwrap();
        soon().await;
        assert_eq!(conflicts(), 0, "{protocol}");
        let judged = docker.routes.borrow().len();
        assert_eq!(judged, usize::from(protocol == RouteProtocol::BOOT), "the checks of the engine know it");
        it.kernel.foreign_remove(route.key).unwrap();
    }
    // A bridge counts as the engine's once a network is on it.
    it.kernel.foreign_add(boot(theirs(2), other)).unwrap();
    soon().await;
    assert_eq!(conflicts(), 1);
    docker.bridges.send_replace(Arc::new(["custom".to_owned()].into()));
    soon().await;
    assert_eq!(conflicts(), 0);
    // A route by hand is not the engine's.
    it.kernel.foreign_add(Route { protocol: RouteProtocol(4), ..boot(theirs(3), bridge) }).unwrap();
    it.kernel
        .foreign_add(boot(Prefix::containing(pool().prefix.addr(), pool().prefix.len() - 1).unwrap(), bridge))
        .unwrap();
    soon().await;
    assert_eq!(conflicts(), 1, "the one around the pool is shorter than all of ours");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_starts_changes_its_bridge_and_is_no_other_process() {
    let (it, docker, _) = beside_docker().await;
    let own = it.input.borrow().claims[0].container_prefix().first_host();
    let reported = || {
        let problems = it.problems.watch().borrow().problems();
        problems.iter().filter(|problem| problem.what == "host-state-changed").count()
    };
    let take_away = async || {
        it.kernel.foreign_remove_address(own);
        soon().await;
        let addresses = it.kernel.addresses().await.unwrap();
        assert!(addresses.iter().any(|address| address.addr == own), "it is restored");
    };
    docker.away.send_replace(true);
    for _ in 0..3 {
        take_away().await;
    }
    assert_eq!(reported(), 0);
    docker.away.send_replace(false);
    take_away().await;
    assert_eq!(reported(), 1, "the engine runs: it was another process");
}
