//! A sample cluster for tests.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::{
    Ack, Applied, BgpNeighbour, Conflict, Container, Containers, FailedRoute, Incarnation, InterfaceAddress,
    NodeName, NodeState, Peer, PeerClaim, Pool, Problem, Revision, Uplink,
    ndp::{By, Learnt, NdpAddress, NdpProxy, NdpUplink},
    trace::{Check, Direction, Kind, Probe, State, Verdict},
};

use super::{
    Backups, ClaimDetails, Cluster, Controller, Event, Explained, Liveness, Node, Place, Plan, Planned,
    PoolUse, Removals, Reservation, Revoked, Route, RouteState, Router, Target, Trace, Unregistered,
};

/// The present time in the samples.
pub(crate) const NOW: u64 = 1_800_000_000_000;

/// Three nodes that are ready.
pub(crate) fn healthy() -> Cluster {
    let incarnation: Incarnation = format!("{:032x}", 0xff).parse().unwrap();
    let pool = Pool::new("main".parse().unwrap(), "2001:db8:1::/48".parse().unwrap(), 64, 80);
    Cluster {
        name: "default".into(),
        store: "embedded:/var/lib/sextant/controller/controller.redb".into(),
        incarnation,
        stale: false,
        revision: Revision(42),
        recovering: false,
        paused: false,
        restoring: false,
        silent: Vec::new(),
        other_histories: Vec::new(),
        refused: Vec::new(),
        revoked: Vec::new(),
        tls: String::new(),
        plain: Vec::new(),
        unregistered: Vec::new(),
        removals: Removals::default(),
        backups: None,
        controllers: vec![Controller {
            id: "c1".into(),
            address: "[::1]:7300".into(),
            version: "0.1.0".into(),
            problems: Vec::new(),
            asked: true,
        }],
        pools: vec![PoolUse {
            pool: pool.unwrap(),
            claimed: 3,
            capacity: 65_536,
            reserved: 2,
            quarantined: 0,
        }],
        nodes: (1..=3).map(node).collect(),
        reserved: vec![],
        routers: Vec::new(),
        unreadable: Vec::new(),
    }
}

/// Automatic backups that work.
pub(crate) fn backups() -> Backups {
    Backups {
        directory: "/var/lib/sextant/controller/backups".into(),
        every: Duration::from_secs(3600),
        last_unix_ms: 1_796_000_000_123,
        failing: String::new(),
        earlier: String::new(),
    }
}

/// host2 is down; host3 is behind, with a failed route and a conflict; the recovery window is open.
pub(crate) fn troubled() -> Cluster {
    let mut cluster = healthy();
    cluster.recovering = true;
    let host2 = &mut cluster.nodes[1];
    (host2.peer.session, host2.down, host2.applied) = (false, true, None);
    host2.liveness = Liveness::Unknown;
    cluster.nodes[2].applied = Some(applied(Ack {
        revision: Revision(40),
        failed: vec![FailedRoute {
            destination: "2001:db8:1:1::/64".parse().unwrap(),
            error: "File exists".into(),
        }],
        conflicts: vec![Conflict {
            destination: "2001:db8:1::/64".parse().unwrap(),
            protocol: "static".into(),
            metric: 100,
            ours_wins: false,
            ours: None,
            leads: "via fe80::1 dev eth0".into(),
        }],
        ..Ack::default()
    }));
    cluster
}

fn applied(ack: Ack) -> Applied {
    Applied { ack, version: "0.1.0".into() }
}

/// The agent of `node` reports a missing bridge.
pub(crate) fn lose_bridge(node: &mut Node) {
    let problem = Problem {
        what: "bridge-missing".into(),
        saw: "bridge \"docker0\" does not exist".into(),
        fix: "start the container engine".into(),
        since_unix_ms: NOW - 120_000,
    };
    node.applied.iter_mut().for_each(|applied| applied.ack.problems.push(problem.clone()));
}

/// The queried controller has lost its store.
pub(crate) fn lose_store(cluster: &mut Cluster) {
    let problem = Problem {
        what: "store-unavailable".into(),
        saw: "store unavailable: etcd:http://e:2379 gave no answer within 2s".into(),
        fix: "start etcd".into(),
        since_unix_ms: NOW - 5_000,
    };
    cluster.stale = true;
    cluster.controllers[0].problems.push(problem);
    for node in &mut cluster.nodes {
        (node.unknown, node.down, node.liveness) = (true, false, Liveness::Unknown);
    }
}

/// Routes of every kind.
pub(crate) fn routes() -> Vec<Route> {
    let next_hop = Target::NextHop("2001:db8::2".parse().unwrap());
    vec![
        route("2001:db8:1::/64", Target::Unreachable, "own prefix", RouteState::Applied),
        Route {
            interface: "eth0".into(),
            error: "File exists".into(),
            ..route("2001:db8:1:1::/64", next_hop, "peer host2", RouteState::Failed)
        },
        route("2001:db8:1:2::/64", Target::LeftToRouter, "peer host3", RouteState::Pending),
    ]
}

/// A working direction, and a broken one.
pub(crate) fn trace() -> Trace {
    let (h1, h2): (NodeName, NodeName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
    let check = |what: &str, state, saw: &str, fix: &str| Check {
        what: what.into(),
        state,
        saw: saw.into(),
        fix: fix.into(),
    };
    let probe = Probe {
        kind: Kind::Echo,
        source: "2001:db8:8000:1::1".parse().ok(),
        target: "2001:db8:8000:2::1".parse().unwrap(),
        sent: 3,
        answered: [80, 200, 110].map(Duration::from_micros).to_vec(),
        error: None,
    };
    let works = Direction {
        from: h1.clone(),
        to: h2.clone(),
        from_container: None,
        to_container: None,
        pool: None,
        verdict: Verdict::Works,
        at: None,
        why: String::new(),
        fix: String::new(),
        checks: vec![(h1.clone(), check("bridge", State::Good, "docker0 has 2001:db8:8000:1::1/80", ""))],
        probe: Some(probe.clone()),
        arrived: Some(3),
    };
    let fix = "on h2: ip -6 rule add to 2001:db8:1::/64 lookup 254 pref 99";
    let broken = Direction {
        from: h2.clone(),
        to: h1,
        from_container: None,
        to_container: None,
        pool: None,
        verdict: Verdict::Broken,
        at: Some(h2.clone()),
        why: "ip -6 rule 100 decides".into(),
        fix: fix.into(),
        checks: vec![(h2, check("route", State::Broken, "ip -6 rule 100 decides", fix))],
        probe: Some(Probe { answered: vec![], ..probe }),
        arrived: Some(0),
    };
    Trace { directions: vec![works, broken], unasked: vec![] }
}

/// A claim.
pub(crate) fn event() -> Event {
    Event {
        revision: Revision(12),
        incarnation: format!("{:032x}", 0xff).parse().unwrap(),
        unix_ms: 1_800_000_000_000,
        what: "claimed".into(),
        node: Some("host1".parse().unwrap()),
        prefix: Some("2001:db8:1::/64".parse().unwrap()),
        pool: Some("main".parse().unwrap()),
        by: "anybody at ::1".into(),
        detail: "a\nb".into(),
    }
}

/// The containers of host2.
pub(crate) fn containers() -> Containers {
    let container = |name: &str, addresses: &[(&str, &str)]| {
        let address = |(network, addr): &(&str, &str)| ((*network).to_owned(), addr.parse().unwrap());
        Container { name: name.into(), addresses: addresses.iter().map(address).collect() }
    };
    Containers {
        engine: "Docker 20.10.24".into(),
        containers: vec![
            container("db", &[("private", "fd00::3"), ("sextant", "2001:db8:1:1::6")]),
            container("web", &[("sextant", "2001:db8:1:1::5")]),
        ],
        more: 2,
    }
}

/// What host2 answers neighbour solicitations for.
pub(crate) fn ndp() -> NdpProxy {
    let address = |n: u16, learnt, by, container: Option<&str>| NdpAddress {
        address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xc000 + n),
        learnt: Some(learnt),
        container: container.map(Into::into),
        mac: (learnt != Learnt::Bridge).then_some([2, 0, 0, 0, 0, 9]),
        since_unix_ms: if learnt == Learnt::Bridge { 0 } else { NOW - 120_000 },
        by,
        why: String::new(),
        fix: String::new(),
    };
    NdpProxy {
        mode: "prefix".into(),
        answer: "live".into(),
        source: "link-local".into(),
        overrides: false,
        uplinks: vec![NdpUplink {
            interface: "eth0".into(),
            mac: Some([2, 0, 0, 0, 0, 2]),
            up: true,
            heard: true,
            entries: 3,
            groups: 3,
            multicast: 5,
            unicast: 6,
            detection: 1,
            refused: vec![("kernel".into(), 40), ("elsewhere".into(), 2)],
            advertised: 6,
        }],
        in_use: 3,
        addresses: vec![
            address(1, Learnt::Bridge, By::Kernel, None),
            address(2, Learnt::Engine, By::Kernel, Some("web")),
            address(3, Learnt::Neighbour, By::Agent, None),
        ],
        more: 4,
    }
}

/// A container's address on host2.
pub(crate) fn explained() -> Explained {
    let mut cluster = healthy();
    Explained {
        address: "2001:db8:1:1::5".parse().unwrap(),
        place: Place::ContainerPrefix,
        pool: Some(cluster.pools.remove(0).pool),
        reservation: None,
        reserved_for: String::new(),
        reason: String::new(),
        freed: None,
        node: Some(cluster.nodes.remove(1)),
        container: None,
        ndp: None,
        routes: vec![
            ("host1".parse().unwrap(), RouteState::Applied, String::new()),
            ("host3".parse().unwrap(), RouteState::Failed, "File exists".into()),
        ],
    }
}

/// The cluster of [`troubled`] with a router, backups and a problem.
pub(crate) fn full() -> Cluster {
    let mut cluster = troubled();
    let applied = cluster.nodes[0].applied.clone();
    cluster.routers = vec![Router { name: "router1".parse().unwrap(), applied }];
    cluster.backups = Some(backups());
    cluster.silent = names();
    cluster.unregistered = unregistered();
    revoke(&mut cluster, 2);
    (cluster.tls, cluster.plain) = ("warn".into(), vec!["node host1".into()]);
    lose_bridge(&mut cluster.nodes[0]);
    cluster
}

/// Revokes a node.
pub(crate) fn revoke(cluster: &mut Cluster, index: usize) {
    let node = &mut cluster.nodes[index];
    node.revoked = true;
    let by = "admin ann at 2001:db8::5".to_owned();
    cluster.revoked = vec![Revoked { node: node.name().clone(), by, since_unix_ms: NOW - 3 * 60_000 }];
}

/// A claim of a lost store.
pub(crate) fn unregistered() -> Vec<Unregistered> {
    let (node, prefix) = ("host7".parse().unwrap(), "fd00:7::/64".parse().unwrap());
    vec![Unregistered { node, prefix, pool: "ula".parse().unwrap(), why: "held later by host2".into() }]
}

/// Two names.
pub(crate) fn names() -> Vec<NodeName> {
    vec!["host2".parse().unwrap(), "host3".parse().unwrap()]
}

/// A reservation for a node.
pub(crate) fn reservation() -> Reservation {
    Reservation {
        prefix: "2001:db8:1:5::/64".parse().unwrap(),
        node: "h1".into(),
        reason: "the old load balancer".into(),
        created_unix_ms: 1_000,
        pool: "main".into(),
        claimed: true,
    }
}

/// A BGP neighbour with a former error.
pub(crate) fn neighbour() -> BgpNeighbour {
    BgpNeighbour {
        address: "2001:db8::f".parse().unwrap(),
        interface: String::new(),
        remote_as: 65_000,
        state: "established".into(),
        since_unix_ms: NOW - 60_000,
        sent: 1,
        received: 2,
        error: "hold timer expired".into(),
        bfd: "up".into(),
        imported: 2,
    }
}

/// A route that host1 would add.
pub(crate) fn plan() -> Plan {
    let change = Planned {
        action: "add",
        destination: "2001:db8:1:2::/64".parse().unwrap(),
        route: "2001:db8:1:2::/64 via 2001:db8::3 dev eth0 proto 66 metric 512".into(),
        why: "peer host3 has no route yet".into(),
        waits: String::new(),
    };
    Plan {
        node: "host1".parse().unwrap(),
        revision: Revision(12),
        paused: true,
        changes: vec![change],
        more: 0,
    }
}

fn route(destination: &str, target: Target, why: &str, state: RouteState) -> Route {
    Route {
        node: "host1".parse().unwrap(),
        destination: destination.parse().unwrap(),
        target,
        interface: String::new(),
        why: why.into(),
        state,
        error: String::new(),
    }
}

fn node(number: u64) -> Node {
    let subnet = number - 1;
    let address = format!("2001:db8::{number}").parse().unwrap();
    Node {
        peer: Peer {
            name: format!("host{number}").parse().unwrap(),
            claims: vec![PeerClaim::current(
                format!("2001:db8:1:{subnet}::/64").parse().unwrap(),
                "main".parse().unwrap(),
                Revision(10 + number),
                NodeState::Ready,
            )],
            next_hops: vec![address],
            session: true,
            drain_timeout: Duration::from_secs(30),
        },
        node_id: Some(format!("{number:032x}").parse().unwrap()),
        uplinks: vec![Uplink {
            interface: "eth0".into(),
            addresses: vec![InterfaceAddress { addr: address, on_link: "2001:db8::/64".parse().unwrap() }],
        }],
        details: vec![ClaimDetails {
            container_prefixes: vec![format!("2001:db8:1:{subnet}::/80").parse().unwrap()],
            claimed_unix_ms: NOW - 2 * 3_600_000,
        }],
        down: false,
        liveness: Liveness::Up,
        liveness_since_unix_ms: 0,
        since_unix_ms: NOW - 3 * 60_000,
        applied: Some(applied(Ack { revision: Revision(42), ..Ack::default() })),
        laggards: Vec::new(),
        ndp: None,
        superseded: 0,
        duplicate_from: String::new(),
        stopped_unix_ms: 0,
        unknown: false,
        revoked: false,
    }
}
