//! The kernel's notifications, and lost ones.

use std::time::Duration;

use sextant_agent::kernel::{Change, Event, Kernel, Route, RouteKey, RouteProtocol, RouteTarget};
use tokio::sync::mpsc::Receiver;

use crate::namespace::{done, ip, ip_batch, key, nth_destination, unreachable, via, with_uplink};

const PEER: &str = "2001:db8:1::/64";

/// The next event.
pub async fn next(events: &mut Receiver<Event>) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
    event.expect("an event within 10 s").expect("an open subscription")
}

/// The first event for which `wanted` returns a value. Without one, the panic message has all events.
async fn find<T>(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.recv()).await {
            Ok(Some(event)) => match wanted(&event) {
                Some(found) => return found,
                None => seen.push(event),
            },
            _ => panic!("no such event among {seen:#?}"),
        }
    }
}

/// The next event of a route, without the kernel's own routes.
async fn next_of_routes(events: &mut Receiver<Event>) -> Event {
    let of_route = |event: &Event| match event {
        Event::RouteChanged(route) | Event::RouteGone(route) | Event::RouteDeleted(route)
            if route.protocol.0 != 2 =>
        {
            Some(event.clone())
        }
        Event::Overrun => Some(Event::Overrun),
        _ => None,
    };
    find(events, of_route).await
}

fn foreign(gateways: &[&str], link: u32) -> Route {
    Route { mtu: None, key: key(PEER), protocol: RouteProtocol(4), target: via(PEER, gateways, link).target }
}

#[test]
fn changes_of_others_are_notified_and_ours_are_not() {
    with_uplink(async |kernel, up0| {
        let mut events = kernel.events().await.unwrap();
        let own = via("2001:db8:2::/64", &["2001:db8::2"], up0);
        done(&kernel, &[Change::Add(own.clone()), Change::Replace(own.clone()), Change::Delete(own)]).await;

        ip("route add 2001:db8:1::/64 via 2001:db8::7 dev up0 metric 512 proto static");
        assert_eq!(next_of_routes(&mut events).await, Event::RouteChanged(foreign(&["2001:db8::7"], up0)));
        ip("route replace 2001:db8:1::/64 via 2001:db8::8 dev up0 metric 512 proto static");
        assert_eq!(next_of_routes(&mut events).await, Event::RouteChanged(foreign(&["2001:db8::8"], up0)));
        ip("route append 2001:db8:1::/64 via 2001:db8::9 dev up0 metric 512 proto static");
        let both = foreign(&["2001:db8::8", "2001:db8::9"], up0);
        assert_eq!(next_of_routes(&mut events).await, Event::RouteChanged(both.clone()));
        ip("route del 2001:db8:1::/64 metric 512");
        assert_eq!(next_of_routes(&mut events).await, Event::RouteDeleted(both));
    });
}

/// A new socket has another port; another process may get the old one.
#[test]
fn after_a_new_socket_changes_of_others_are_notified_and_ours_are_not() {
    with_uplink(async |kernel, up0| {
        let mut events = kernel.events().await.unwrap();
        let many = (0..10_000).map(|n| Change::Add(via(&nth_destination(n), &["2001:db8::2"], up0)));
        let many: Vec<Change> = many.collect();
        let mut apply = Box::pin(kernel.apply(&many));
        assert!(futures::poll!(&mut apply).is_pending(), "10,000 changes in one poll");
        drop(apply);
        let own = via(PEER, &["2001:db8::2"], up0);
        done(&kernel, &[Change::Add(own.clone()), Change::Delete(own)]).await;
        let other = sextant_agent::kernel::NetlinkKernel::open().unwrap();
        done(&other, &[Change::Add(via("2001:db8:2::/64", &["2001:db8::2"], up0))]).await;
        let Event::RouteChanged(route) = next_of_routes(&mut events).await else { panic!("no change") };
        assert_eq!(route.key, key("2001:db8:2::/64"));
    });
}

#[test]
fn changes_through_another_socket_are_notified_even_with_our_protocol() {
    with_uplink(async |kernel, up0| {
        let other = sextant_agent::kernel::NetlinkKernel::open().unwrap();
        let mut events = kernel.events().await.unwrap();
        done(&other, &[Change::Add(via(PEER, &["2001:db8::2"], up0))]).await;
        let Event::RouteChanged(route) = next_of_routes(&mut events).await else { panic!("no change") };
        assert_eq!((route.key, route.protocol), (key(PEER), RouteProtocol::OURS));
    });
}

#[test]
fn a_link_that_goes_down_is_notified_with_its_routes_and_addresses() {
    with_uplink(async |kernel, up0| {
        let ours = via(PEER, &["2001:db8::2"], up0);
        done(&kernel, &[Change::Add(ours.clone()), Change::Add(unreachable("2001:db8::/32"))]).await;
        let mut events = kernel.events().await.unwrap();
        ip("link set up0 down");
        let (mut route, mut address, mut link) = (false, false, false);
        while !(route && address && link) {
            match next(&mut events).await {
                Event::RouteGone(gone) if gone.key == ours.key => route = true,
                Event::RouteGone(gone) => assert_ne!(gone.target, RouteTarget::Unreachable),
                Event::AddressGone(gone) if gone.global => address = gone.link == up0,
                Event::LinkChanged(changed) if changed.index == up0 => link = !changed.up,
                _ => {}
            }
        }
        assert_eq!(crate::namespace::ours(&kernel).await, [unreachable("2001:db8::/32")]);
    });
}

#[test]
fn links_and_addresses_are_notified() {
    with_uplink(async |kernel, _| {
        ip("link add br0 type bridge");
        let mut events = kernel.events().await.unwrap();
        ip("link set far0 master br0");
        let br0 = crate::namespace::link_index(&kernel, "br0").await;
        let joined = |event: &Event| match event {
            Event::LinkChanged(link) if link.name == "far0" && link.controller == Some(br0) => Some(()),
            _ => None,
        };
        find(&mut events, joined).await;
        ip("link set far0 nomaster");
        // The kernel sends an RTM_DELLINK of the family AF_BRIDGE; the link itself still exists.
        let left = |event: &Event| match event {
            Event::LinkGone(link) => panic!("{link:?} is not gone"),
            Event::LinkChanged(link) if link.name == "far0" && link.controller.is_none() => Some(()),
            _ => None,
        };
        find(&mut events, left).await;
        ip("addr add 2001:db8:5::1/64 dev far0 valid_lft 1000 preferred_lft 500");
        let added: std::net::Ipv6Addr = "2001:db8:5::1".parse().unwrap();
        let usable = |event: &Event| match event {
            Event::AddressChanged(address) if address.addr == added && !address.tentative => {
                Some(address.clone())
            }
            _ => None,
        };
        let address = find(&mut events, usable).await;
        assert_eq!(
            (address.addr.to_string().as_str(), address.len, address.permanent),
            ("2001:db8:5::1", 64, false)
        );
        ip("link del br0");
        let gone = |event: &Event| match event {
            Event::LinkGone(link) => Some((link.name.clone(), link.bridge)),
            _ => None,
        };
        assert_eq!(find(&mut events, gone).await, ("br0".to_owned(), true));
    });
}

#[test]
fn forwarding_of_all_and_of_each_link_is_notified() {
    with_uplink(async |kernel, up0| {
        let mut events = kernel.events().await.unwrap();
        for (path, link) in [("all", None), ("up0", Some(up0))] {
            for on in [true, false] {
                let value = if on { "1" } else { "0" };
                kernel.set_sysctl(&format!("net/ipv6/conf/{path}/forwarding"), value).unwrap();
                find(&mut events, |event| (*event == Event::Forwarding { link, on }).then_some(())).await;
            }
        }
    });
}

/// Another process adds so many routes, while the listener's task reads nothing: it shares this thread.
fn add_foreign(routes: u32) {
    ip_batch(
        (0..routes).map(|n| format!("route add {} via 2001:db8::7 dev up0 metric 512", nth_destination(n))),
    );
}

/// Reads events up to the overrun, then expects new ones. Returns the number of events before the overrun.
async fn events_before_overrun(events: &mut Receiver<Event>) -> u32 {
    let mut count = 0;
    while next_of_routes(events).await != Event::Overrun {
        count += 1;
    }
    ip("route add 2001:db8:1::/64 via 2001:db8::7 dev up0 metric 700");
    let Event::RouteChanged(route) = next_of_routes(events).await else { panic!("no change") };
    let marker = RouteKey { metric: 700, ..key(PEER) };
    assert_eq!(route.key, marker, "a lost event came after the overrun");
    count
}

#[test]
fn a_full_socket_causes_an_overrun() {
    with_uplink(async |kernel, _| {
        let mut events = kernel.events().await.unwrap();
        add_foreign(30_000);
        assert_eq!(events_before_overrun(&mut events).await, 0, "events that are older than the lost ones");
    });
}

#[test]
fn a_slow_reader_causes_an_overrun() {
    with_uplink(async |kernel, _| {
        let mut events = kernel.events().await.unwrap();
        add_foreign(3_000);
        // The listener's task runs at each yield, until it has read all notifications.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(events.capacity(), 0, "the channel is not full");
        let count = events_before_overrun(&mut events).await;
        assert!((1..=1024).contains(&count), "{count} events before the overrun");
    });
}

#[test]
fn each_change_of_the_firewall_is_counted() {
    with_uplink(async |kernel, _| {
        let mut changes = kernel.firewall_changes().unwrap();
        for (count, arguments) in [(1, ["-A", "FORWARD", "-j", "DROP"]), (2, ["-D", "FORWARD", "-j", "DROP"])]
        {
            let done = std::process::Command::new("ip6tables-nft").args(arguments).status().unwrap();
            assert!(done.success());
            let changed = tokio::time::timeout(Duration::from_secs(10), changes.changed()).await;
            changed.expect("a notification within 10 s").expect("an open subscription");
            // The first command makes the table too: in the same transaction, or in one before.
            assert!(*changes.borrow_and_update() >= count);
        }
        // What the kernel does otherwise is none.
        let before = *changes.borrow();
        ip("route add 2001:db8:1::/64 via 2001:db8::7 dev up0");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(*changes.borrow(), before);
    });
}
