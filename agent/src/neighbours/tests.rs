use sextant_proto::Peer;

use super::*;
use crate::{
    kernel::{Neighbour, NeighbourState, fake::FakeKernel},
    routes::fixture::{uplink, view},
};

/// Lets so many addresses on the link be unanswered, and a table with them fail on and on.
fn flood(kernel: &FakeKernel, link: u32, count: u32) {
    for n in 0..count {
        let addr = format!("2001:db8::1:{n:x}").parse().unwrap();
        kernel.put_neighbour(Neighbour { link, addr, state: NeighbourState::Probing, mac: None });
    }
    kernel.change_neighbour_table(|table| (table.entries, table.failed) = (count, table.failed + 1000));
}

#[tokio::test(start_paused = true)]
async fn a_flooded_link_is_a_finding_and_a_metric_until_the_flood_ends() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    let problems = Problems::default();
    let (_uplinks, uplinks) = watch::channel(Vec::new());
    let (_input, input) = watch::channel(Input::default());
    let watch = NeighbourWatch::new(Arc::new(kernel.clone()), uplinks, input, problems.clone());
    let meters = watch.meters();
    tokio::spawn(watch.run());
    let found = || {
        let found = problems.watch().borrow().problems();
        found.into_iter().filter(|it| it.what.starts_with("neighbour")).collect::<Vec<_>>()
    };
    for _ in 0..4 {
        assert_eq!(found(), []);
        for _ in 0..4 {
            flood(&kernel, 2, 200);
            tokio::time::sleep(LOOK).await;
        }
        let [problem] = &found()[..] else { panic!("{:?}", found()) };
        assert!(problem.saw.contains("interface eth0") && problem.saw.contains("200 of 1024"), "{problem:?}");
        assert!(problem.fix.contains("dst net 2001:db8::/64"), "{problem:?}");
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        meters.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("neighbours_unanswered 200") && text.contains("neighbours_limit 1024"),
            "{text}"
        );
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_doctors_two_readings_find_a_flooded_link() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    assert_eq!(problems_now(&kernel).await.unwrap(), []);
    flood(&kernel, 2, 64);
    let found = problems_now(&kernel).await.unwrap();
    assert_eq!(found.iter().map(|it| it.what).collect::<Vec<_>>(), ["neighbours-unanswered"]);
}

fn peer(n: usize) -> Peer {
    Peer {
        name: format!("h{n}").parse().unwrap(),
        claims: vec![],
        next_hops: vec![format!("2001:db8::{n:x}").parse().unwrap()],
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_too_low_for_the_peers_and_containers_are_reported_before_the_table_is_full() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    for n in 0..10 {
        let port = kernel.add_link(&format!("veth{n}"));
        kernel.change_link(port, |link| link.controller = Some(9));
    }
    let problems = Problems::default();
    let (_uplinks, uplinks) = watch::channel(vec![uplink(2, "2001:db8::1")]);
    let (input_tx, input) = watch::channel(Input::default());
    tokio::spawn(NeighbourWatch::new(Arc::new(kernel.clone()), uplinks, input, problems.clone()).run());
    let found = |peers: usize| {
        let peers =
            (2..peers + 2).map(peer).chain([Peer { next_hops: vec!["fd00::1".parse().unwrap()], ..peer(1) }]);
        input_tx.send_replace(Input { view: Arc::new(view(vec![], peers.collect())), ..Input::default() });
        let problems = problems.clone();
        async move {
            tokio::time::sleep(COMPARED * 2).await;
            let found = problems.watch().borrow().problems();
            found.into_iter().find(|it| it.what == "neighbour-limits-low").map(|it| (it.saw, it.fix))
        }
    };
    assert_eq!(found(502).await, None);
    let (saw, fix) = found(503).await.unwrap();
    assert!(saw.contains("keeps 512 to 1024 IPv6 neighbours, but 513 next hops and containers"), "{saw}");
    assert!(fix.contains("gc_thresh2=1026 net.ipv6.neigh.default.gc_thresh3=2052"), "{fix}");
    kernel.change_neighbour_table(|table| (table.soft_limit, table.limit) = (1026, 2052));
    assert_eq!(found(503).await, None, "the fix is carried out");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_entry_of_a_peer_is_a_finding_until_it_is_gone() {
    let kernel = FakeKernel::with_uplink("eth0", "2001:db8::1/64");
    let problems = Problems::default();
    let (_uplinks, uplinks) = watch::channel(vec![uplink(2, "2001:db8::1")]);
    let view = view(vec![], vec![peer(2), peer(3)]);
    let (_input, input) = watch::channel(Input { view: Arc::new(view), ..Input::default() });
    tokio::spawn(NeighbourWatch::new(Arc::new(kernel.clone()), uplinks, input, problems.clone()).run());
    let put = |addr: &str, state| {
        kernel.put_neighbour(Neighbour { link: 2, addr: addr.parse().unwrap(), state, mac: None });
    };
    let found = async || {
        tokio::time::sleep(COMPARED * 2).await;
        let found = problems.watch().borrow().problems();
        let of_neighbours = found.into_iter().filter(|it| it.what.starts_with("neighbour"));
        of_neighbours.map(|it| (it.what, it.fix)).collect::<Vec<_>>()
    };
    put("2001:db8::2", NeighbourState::Fixed);
    put("2001:db8::3", NeighbourState::Reachable);
    // Nobody's next hop.
    put("2001:db8::9", NeighbourState::Permanent);
    assert_eq!(found().await, []);
    put("2001:db8::2", NeighbourState::Permanent);
    let [(what, fix)] = &found().await[..] else { panic!() };
    assert_eq!(what, "neighbour-permanent");
    assert!(fix.contains("ip -6 neigh del 2001:db8::2 dev eth2 (all:"), "{fix}");
    put("2001:db8::2", NeighbourState::Reachable);
    assert_eq!(found().await, []);
}
