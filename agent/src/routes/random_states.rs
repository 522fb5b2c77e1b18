//! Random states of a host: claims, view, verdicts, imports. For property tests.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc, time::Duration};

use proptest::prelude::*;
use sextant_proto::{Claim, Control, Epoch, NodeName, NodeState, Peer, PeerClaim, Pool, Prefix, Revision};

use super::{
    Hop, Imports, Known, ReceivedPath,
    fixture::{incarnation, known, pool, uplink, uplink_with},
};
use crate::{
    cluster::{Snapshot, Verdict, Verdicts, View},
    kernel::NextHop,
    settings::{Direct, Mark, RouteSettings, Topology},
    uplinks::LocalUplink,
};

/// So many nodes there are at most, this one among them.
pub(crate) const NODES: u8 = 24;
/// The metric of imported routes.
const IMPORTED: u32 = 768;

/// All that a host knows, but for its settings.
#[derive(Debug, Clone)]
pub(crate) struct RandomState {
    pub(crate) claims: Vec<Claim>,
    pub(crate) view: Arc<View>,
    pub(crate) verdicts: Arc<Verdicts>,
    pub(crate) imports: Arc<Imports>,
    pub(crate) controllers: Vec<Ipv6Addr>,
    pub(crate) withdrawn: bool,
}

impl RandomState {
    pub(super) fn known<'a>(&'a self, uplinks: &'a [LocalUplink], settings: &'a RouteSettings) -> Known<'a> {
        Known {
            claims: &self.claims,
            uplinks,
            controllers: &self.controllers,
            withdrawn: self.withdrawn,
            verdicts: &self.verdicts,
            imports: &self.imports,
            settings,
            ..known(&self.view)
        }
    }
}

/// The two uplinks, of which one may not work; or none with an address.
pub(super) fn uplinks() -> impl Strategy<Value = Vec<LocalUplink>> {
    let (eth2, eth3) = (uplink(2, "2001:db8::1"), uplink(3, "2001:db8:0:3::1"));
    let idle = LocalUplink { works: false, ..eth2.clone() };
    let mut bare = uplink_with(2, "2001:db8::1", &[]);
    let routed = bare.clone();
    bare.uplink.addresses.clear();
    prop_oneof![
        4 => Just(vec![eth2, eth3.clone()]),
        2 => Just(vec![idle, eth3]),
        1 => Just(vec![bare]),
        1 => Just(vec![routed]),
        1 => Just(vec![]),
    ]
}

/// The host prefix of the nth node.
pub(crate) fn prefix(n: u8) -> Prefix {
    format!("2001:db8:8000:{n:x}::/64").parse().unwrap()
}

/// The name of the nth node; this one is the first.
pub(crate) fn name(n: u8) -> NodeName {
    format!("host{n}").parse().unwrap()
}

/// Settings of routes.
pub(crate) fn settings() -> impl Strategy<Value = RouteSettings> {
    let mark = prop_oneof![2 => Just(None), 1 => Just(Some(Mark { table: 66, metric: 7 }))];
    let direct = prop_oneof![5 => Just(Direct::OnLink), 1 => Just(Direct::Never)];
    let topology = prop_oneof![5 => Just(Topology::Switched), 1 => Just(Topology::Routed)];
    (any::<bool>(), direct, topology, mark).prop_map(|(balance, direct, topology, mark)| RouteSettings {
        balance,
        direct,
        topology,
        mark,
        ..super::fixture::SETTINGS
    })
}

/// A state.
pub(crate) fn state() -> impl Strategy<Value = RandomState> {
    let controller = prop_oneof![5 => Just(None), 1 => Just("2001:db8:8000:ffff::1".parse().ok())];
    let claims = prop_oneof![5 => some_pools(), 1 => Just(vec![])];
    let withdrawn = prop::bool::weighted(0.1);
    (claims, view(), verdicts(), imports(), controller, withdrawn).prop_map(
        |(claims, view, verdicts, imports, controller, withdrawn)| RandomState {
            claims: claims.into_iter().map(own_claim).collect(),
            view: Arc::new(view),
            verdicts: Arc::new(verdicts),
            imports: Arc::new(imports),
            controllers: controller.into_iter().collect(),
            withdrawn,
        },
    )
}

fn own_claim(pool: Pool) -> Claim {
    let epoch = Epoch { incarnation: incarnation(), revision: Revision(1) };
    Claim { prefix: prefix_in(&pool, 1), epoch, pool }
}

/// One to three pools, mostly the first alone.
fn some_pools() -> impl Strategy<Value = Vec<Pool>> {
    let all = || [pool(), other_pool(), third_pool()];
    prop_oneof![4 => Just(vec![pool()]), 3 => proptest::sample::subsequence(all().to_vec(), 1..=3)]
}

/// The prefix of the nth node in a pool.
fn prefix_in(pool: &Pool, n: u8) -> Prefix {
    pool.prefix.nth(pool.host_len, n.into()).unwrap()
}

/// Mostly nearly all nodes or nearly none, so that the brake has something to hold.
fn view() -> impl Strategy<Value = View> {
    let share = prop_oneof![Just(0.05), Just(0.5), Just(0.95)];
    let peers = share.prop_flat_map(|share| {
        let all = (1..=NODES).map(|n| proptest::option::weighted(share, peer(n)));
        all.collect::<Vec<_>>()
    });
    let pools = prop_oneof![4 => Just(vec![pool()]), 1 => Just(vec![]), 1 => Just(vec![pool(), other_pool()]),
        1 => Just(vec![pool(), other_pool(), third_pool()])];
    let known = prop::bool::weighted(0.9);
    let control = (prop::bool::weighted(0.1), 0u64..3, prop_oneof![3 => Just(0), 1 => 0u64..20]);
    let (recovering, revision) = (prop::bool::weighted(0.2), 1u64..50);
    (peers, pools, known, control, recovering, revision).prop_map(
        |(peers, pools, known, (paused, resumed, confirmed_removals), recovering, revision)| {
            let mut view = View::default();
            if known {
                view.apply_snapshot(Snapshot {
                    mark: None,
                    incarnation: incarnation(),
                    revision: Revision(revision),
                    linearizable: true,
                    recovering,
                    control: Control { paused, resumed: Revision(resumed), confirmed_removals },
                    pools,
                    peers: peers.into_iter().flatten().collect(),
                });
            }
            view
        },
    )
}

fn other_pool() -> Pool {
    Pool::new("other".parse().unwrap(), "2001:db8:9000::/40".parse().unwrap(), 64, 64).unwrap()
}

fn third_pool() -> Pool {
    Pool::new("ula".parse().unwrap(), "fd00:0:5e00::/40".parse().unwrap(), 64, 64).unwrap()
}

/// The claims of the nth node in some pools. While it is ready for one, it may be joining for another.
fn claims(n: u8) -> impl Strategy<Value = Vec<PeerClaim>> {
    let state = prop_oneof![
        12 => Just(NodeState::Ready),
        1 => Just(NodeState::Joining),
        1 => Just(NodeState::Draining),
        1 => Just(NodeState::Drained),
    ];
    let joining = proptest::collection::vec(prop::bool::weighted(0.1), 3);
    (some_pools(), state, joining).prop_map(move |(pools, state, joining)| {
        let claim = |(pool, joining): (Pool, bool)| {
            let state = if joining && state == NodeState::Ready { NodeState::Joining } else { state };
            PeerClaim::current(prefix_in(&pool, n), pool.name, Revision(1), state)
        };
        pools.into_iter().zip(joining).map(claim).collect()
    })
}

fn peer(n: u8) -> impl Strategy<Value = Peer> {
    // On either uplink, on both, behind a router, inside the pool, and nowhere.
    let hops = prop_oneof![
        12 => Just(vec![format!("2001:db8::{n:x}")]),
        3 => Just(vec![format!("2001:db8:0:3::{n:x}")]),
        3 => Just(vec![format!("2001:db8:0:3::{n:x}"), format!("2001:db8::{n:x}")]),
        1 => Just(vec![format!("2001:db8:7::{n:x}")]),
        1 => Just(vec![format!("2001:db8:8000:ff::{n:x}")]),
        1 => Just(vec![]),
    ];
    (claims(n), hops, prop::bool::weighted(0.7)).prop_map(move |(claims, hops, session)| Peer {
        name: name(n),
        claims,
        next_hops: hops.iter().map(|hop| hop.parse().unwrap()).collect(),
        session,
        drain_timeout: Duration::ZERO,
    })
}

fn verdicts() -> impl Strategy<Value = Verdicts> {
    let verdict = prop_oneof![Just(Verdict::Dead), Just(Verdict::Forwarding)];
    let nodes = proptest::collection::btree_map((2..=NODES).prop_map(name), verdict, 0..6);
    let hop = (2..=NODES).prop_map(|n| NextHop {
        gateway: format!("2001:db8::{n:x}").parse().ok(),
        link: 2,
        onlink: false,
    });
    (nodes, proptest::collection::btree_set(hop, 0..3))
        .prop_map(|(nodes, silent)| Verdicts::new(nodes, silent))
}

fn imports() -> impl Strategy<Value = Imports> {
    let prefixes =
        ["::/0", "2001:db8:f000::/36", "2001:db8:8000:2::/64", "2001:db8:8000::/40", "2001:db8::/64"];
    let prefix = proptest::sample::select(prefixes.to_vec()).prop_map(|it| it.parse::<Prefix>().unwrap());
    let path =
        prop_oneof![Just("2001:db8::fe"), Just("2001:db8:0:3::fe"), Just("2001:db8:7::fe")].prop_map(path);
    (proptest::collection::btree_map(prefix, path, 0..4), prop::bool::weighted(0.8)).prop_map(
        |(routes, complete)| Imports { routes: BTreeMap::from_iter(routes), metric: IMPORTED, complete },
    )
}

fn path(router: &str) -> Arc<ReceivedPath> {
    let router = router.parse().unwrap();
    Arc::new(ReceivedPath {
        hop: Hop { global: Some(router), link_local: None, router, interface: None },
        local_pref: 100,
        as_path_len: 1,
        origin: 0,
        external: true,
        neighbour_as: 65000,
        med: 0,
    })
}
