//! Each kind of change, as shown by `ip`, and read back.

use nix::libc::{E2BIG, EEXIST, EHOSTUNREACH, EINVAL, ENOENT, ESRCH};
use sextant_agent::kernel::{Change, Kernel, NextHop, OwnRoute, RouteKey, RouteProtocol, RouteTarget, Scope};

use crate::namespace::{MAIN, done, errnos, ip, key, ours, run, unreachable, via, with_uplink};

const PEER: &str = "2001:db8:1::/64";

/// The output of `ip` for a destination in all tables, with normalised white space.
fn shown(destination: &str) -> String {
    let text = ip(&format!("route show table all {destination}"));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn ip_shows_added_routes() {
    with_uplink(async |kernel, up0| {
        let changes = [
            Change::Add(via(PEER, &["2001:db8::2"], up0)),
            Change::Add(via("2001:db8:2::/64", &["2001:db8::2", "fe80::3"], up0)),
            Change::Add(unreachable("2001:db8::/32")),
            Change::Add(via("::/0", &["2001:db8::9"], up0)),
        ];
        done(&kernel, &changes).await;
        assert_eq!(shown(PEER), "2001:db8:1::/64 via 2001:db8::2 dev up0 proto 66 metric 512 pref medium");
        assert_eq!(
            shown("2001:db8:2::/64"),
            "2001:db8:2::/64 proto 66 metric 512 pref medium nexthop via 2001:db8::2 dev up0 weight 1 \
             nexthop via fe80::3 dev up0 weight 1"
        );
        assert_eq!(
            shown("2001:db8::/32"),
            "unreachable 2001:db8::/32 dev lo proto 66 metric 512 pref medium"
        );
        assert_eq!(shown("default"), "default via 2001:db8::9 dev up0 proto 66 metric 512 pref medium");
        let mut wanted: Vec<OwnRoute> = changes.iter().map(|change| change.route().clone()).collect();
        wanted.sort_by_key(|route| route.key);
        assert_eq!(ours(&kernel).await, wanted);
    });
}

#[test]
fn an_addition_never_changes_a_foreign_route() {
    with_uplink(async |kernel, up0| {
        ip("route add 2001:db8:1::/64 via 2001:db8::7 metric 512 proto static");
        let before = shown(PEER);
        let results = kernel.apply(&[Change::Add(via(PEER, &["2001:db8::2"], up0))]).await.unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().code, EEXIST);
        assert_eq!(shown(PEER), before);
        assert_eq!(ours(&kernel).await, []);
    });
}

#[test]
fn a_replacement_never_leaves_a_gap() {
    with_uplink(async |kernel, up0| {
        done(&kernel, &[Change::Add(via(PEER, &["2001:db8::2"], up0))]).await;
        // The kernel notifies each step: a gap would be a removal.
        let mut events = sextant_agent::kernel::NetlinkKernel::open().unwrap().events().await.unwrap();
        let targets = [
            via(PEER, &["2001:db8::3"], up0),
            via(PEER, &["2001:db8::3", "2001:db8::4"], up0),
            unreachable(PEER),
            via(PEER, &["2001:db8::4", "2001:db8::5"], up0),
            via(PEER, &["2001:db8::2"], up0),
        ];
        for target in targets {
            done(&kernel, &[Change::Replace(target.clone())]).await;
            assert_eq!(ours(&kernel).await, [target]);
        }
        ip("route add 2001:db8:ffff::/64 via 2001:db8::7");
        loop {
            let event = crate::events::next(&mut events).await;
            match &event {
                sextant_agent::kernel::Event::RouteDeleted(route) => panic!("{route:?} was gone"),
                sextant_agent::kernel::Event::RouteChanged(route)
                    if route.key.destination != key(PEER).destination =>
                {
                    break;
                }
                _ => {}
            }
        }
    });
}

#[test]
fn a_replacement_of_a_missing_route_fails() {
    with_uplink(async |kernel, up0| {
        let mut other_metric = via(PEER, &["2001:db8::2"], up0);
        other_metric.key.metric = 600;
        done(&kernel, &[Change::Add(other_metric.clone())]).await;
        let replace = [Change::Replace(via(PEER, &["2001:db8::2"], up0))];
        assert_eq!(errnos(&kernel, &replace).await, [ENOENT]);
        assert_eq!(ours(&kernel).await, [other_metric]);
    });
}

#[test]
fn a_removal_deletes_only_our_routes() {
    with_uplink(async |kernel, up0| {
        ip("route add 2001:db8:1::/64 via 2001:db8::7 metric 512 proto static");
        let before = shown(PEER);
        let delete = Change::Delete(via(PEER, &["2001:db8::7"], up0));
        assert_eq!(errnos(&kernel, &[delete]).await, [ESRCH]);
        assert_eq!(shown(PEER), before);

        let multipath = via("2001:db8:2::/64", &["2001:db8::2", "2001:db8::3"], up0);
        let changes = [
            Change::Add(multipath.clone()),
            Change::Delete(multipath.clone()),
            Change::Delete(multipath),
            Change::Add(unreachable("2001:db8:3::/64")),
            Change::Delete(unreachable("2001:db8:3::/64")),
        ];
        assert_eq!(errnos(&kernel, &changes).await, [0, 0, ESRCH, 0, 0]);
        assert_eq!(ours(&kernel).await, []);
    });
}

#[test]
fn tables_are_independent() {
    with_uplink(async |kernel, up0| {
        let in_table =
            |table| OwnRoute { key: RouteKey { table, ..key(PEER) }, ..via(PEER, &["2001:db8::2"], up0) };
        let tables = [100, MAIN, 1000, 70_000];
        done(&kernel, &tables.map(|table| Change::Add(in_table(table)))).await;
        ip("route add 2001:db8:9::/64 via 2001:db8::7 table 1000 proto static");
        assert_eq!(ours(&kernel).await, tables.map(in_table));

        let of_1000 = kernel.routes(Scope::Table(1000)).await.unwrap();
        let protocols: Vec<u8> = of_1000.iter().map(|route| route.protocol.0).collect();
        assert_eq!(protocols, [RouteProtocol::OURS.0, 4], "{of_1000:?}");
        assert!(of_1000.iter().all(|route| route.key.table == 1000), "{of_1000:?}");
        assert_eq!(kernel.routes(Scope::Table(12345)).await.unwrap(), []);

        done(&kernel, &[Change::Delete(in_table(70_000))]).await;
        assert_eq!(ours(&kernel).await, [100, MAIN, 1000].map(in_table));
    });
}

#[test]
fn the_main_table_has_connected_routes_and_no_local_ones() {
    with_uplink(async |kernel, up0| {
        let routes = kernel.routes(Scope::Table(MAIN)).await.unwrap();
        let connected = routes.iter().find(|route| route.key.destination == "2001:db8::/64".parse().unwrap());
        let connected = connected.unwrap_or_else(|| panic!("{routes:?}"));
        assert_eq!((connected.protocol.to_string().as_str(), connected.key.metric), ("kernel", 256));
        let on_link = NextHop { gateway: None, link: up0, onlink: false };
        assert_eq!(connected.target, RouteTarget::Via([on_link].into()));
        assert!(routes.iter().all(|route| route.key.table == MAIN), "{routes:?}");
    });
}

/// A gateway that no route makes a neighbour.
#[test]
fn a_route_says_that_its_gateway_is_a_neighbour() {
    with_uplink(async |kernel, up0| {
        let hop = |gateway: &str, onlink| NextHop { gateway: gateway.parse().ok(), link: up0, onlink };
        for hops in
            [vec![hop("2001:db9::7", true)], vec![hop("2001:db9::7", true), hop("2001:db8::8", false)]]
        {
            let route = OwnRoute { key: key(PEER), target: RouteTarget::Via(hops.into_iter().collect()) };
            done(&kernel, &[Change::Add(route.clone())]).await;
            let standing = kernel.routes(Scope::Ours).await.unwrap();
            assert_eq!(standing.iter().map(|it| &it.target).collect::<Vec<_>>(), [&route.target]);
            done(&kernel, &[Change::Delete(route)]).await;
        }
        let unsaid = Change::Add(via(PEER, &["2001:db9::7"], up0));
        assert!(kernel.apply(&[unsaid]).await.unwrap()[0].is_err());
    });
}

#[test]
fn foreign_routes_are_read() {
    with_uplink(async |kernel, up0| {
        ip("nexthop add id 7 via 2001:db8::7 dev up0");
        ip("nexthop add id 8 via 2001:db8::8 dev up0");
        run("nexthop add id 9 group 7/8").unwrap();
        ip("route add 2001:db8:1::/64 nhid 7 metric 512");
        ip("route add 2001:db8:2::/64 nhid 9 metric 512");
        ip("route add blackhole 2001:db8:3::/64 metric 512");
        ip("route add 2001:db8:4::/64 encap seg6 mode encap segs 2001:db8::7 dev up0 metric 512");
        ip("route add 2001:db8:5::/64 from 2001:db8:77::/64 via 2001:db8::7 metric 512");
        let routes = kernel.routes(Scope::Table(MAIN)).await.unwrap();
        let target =
            |text| routes.iter().find(|route| route.key == key(text)).map(|route| route.target.clone());
        assert_eq!(target("2001:db8:1::/64"), Some(via(PEER, &["2001:db8::7"], up0).target));
        assert_eq!(target("2001:db8:2::/64"), Some(via(PEER, &["2001:db8::7", "2001:db8::8"], up0).target));
        assert_eq!(target("2001:db8:3::/64"), Some(RouteTarget::Other(nix::libc::RTN_BLACKHOLE)));
        let on_link = NextHop { gateway: None, link: up0, onlink: false };
        assert_eq!(target("2001:db8:4::/64"), Some(RouteTarget::Via([on_link].into())));
        assert_eq!(target("2001:db8:5::/64"), None, "a route with a source prefix has no key");
    });
}

#[test]
fn only_the_route_of_proto_boot_to_the_link_is_removed() {
    with_uplink(async |kernel, up0| {
        let key = |metric| RouteKey { table: MAIN, destination: PEER.parse().unwrap(), metric };
        ip("link add other type bridge");
        ip("link set other up");
        for route in ["dev up0 proto boot", "dev up0 proto static metric 7", "dev other proto boot metric 8"]
        {
            ip(&format!("route add {PEER} {route}"));
        }
        kernel.remove_boot_route(&key(1024), up0).await.unwrap();
        let left = shown(PEER);
        assert!(left.contains("proto static metric 7") && left.contains("dev other metric 8"), "{left}");
        assert!(!left.contains("metric 1024"), "{left}");
        // Neither a missing one, nor one of another protocol or link.
        for (metric, link) in [(1024, up0), (7, up0), (8, up0), (1024, 4_000)] {
            kernel.remove_boot_route(&key(metric), link).await.unwrap();
        }
        assert_eq!(shown(PEER), left);
    });
}

#[test]
fn keys_that_the_kernel_would_misinterpret_are_refused() {
    with_uplink(async |kernel, up0| {
        done(&kernel, &[Change::Add(via(PEER, &["2001:db8::2"], up0))]).await;
        let mut any_metric = via(PEER, &["2001:db8::2"], up0);
        any_metric.key.metric = 0;
        let mut any_table = via(PEER, &["2001:db8::2"], up0);
        any_table.key.table = 0;
        let hops = (0..1025u32).map(|n| NextHop { gateway: None, link: n, onlink: false });
        let too_many = OwnRoute { key: key(PEER), target: RouteTarget::Via(hops.collect()) };
        let changes = [
            Change::Delete(any_metric),
            Change::Delete(any_table),
            Change::Replace(too_many),
            Change::Replace(via(PEER, &[], up0)),
            Change::Add(via("2001:db8:2::/64", &["2001:db8:ffff::1"], up0)),
        ];
        assert_eq!(errnos(&kernel, &changes).await, [EINVAL, EINVAL, E2BIG, EINVAL, EHOSTUNREACH]);
        assert_eq!(ours(&kernel).await, [via(PEER, &["2001:db8::2"], up0)]);
    });
}
