//! Replacement of a route under traffic.

use sextant_tests::{RouteMonitor, SECONDS, poll};

use crate::testbed::Testbed;

/// The peer's next hop alternates between two of its addresses, which both keep answering.
#[test]
fn replacing_a_route_loses_no_packet() {
    let testbed = Testbed::start("replaced", 2);
    let (peer, prefix) = (&testbed.cluster.hosts[1], testbed.cluster.prefix("h2"));
    let second = "2001:db8::2:2";
    peer.ip(&format!("-6 address add {second}/64 dev eth0 nodad")).unwrap();
    let stream = testbed.stream(0, 1);
    let monitor = RouteMonitor::start(testbed.host()).unwrap();
    // A deprecated address is not announced.
    let prefer = |addr: &str, lifetime: &str| {
        peer.ip(&format!("-6 address change {addr}/64 dev eth0 nodad preferred_lft {lifetime}")).unwrap();
    };
    let first = peer.address().to_string();
    for round in 0..20 {
        let (old, new) = if round % 2 == 0 { (first.as_str(), second) } else { (second, first.as_str()) };
        prefer(new, "forever");
        prefer(old, "0");
        let moved = format!("{prefix} via {new} dev eth0 proto 66 metric 512");
        poll(&format!("round {round}: {moved}"), 10 * SECONDS, || {
            let routes = testbed.host().routes_of(66)?;
            anyhow::ensure!(routes.contains(&moved), "{routes:#?}");
            anyhow::Ok(())
        });
        stream.flows(5, 10 * SECONDS).unwrap();
    }
    let events = monitor.events().unwrap();
    assert!(events.iter().all(|event| !event.gone), "replaced, never without a route: {events:?}");
    stream.finish().unwrap().nothing_lost().unwrap();
}
