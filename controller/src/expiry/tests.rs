use sextant_proto::{Ack, Applied, InterfaceAddress, NodeId, Pool, Revision, Uplink};

use super::*;
use crate::{
    claims::ClaimRequest,
    index::IndexTask,
    keys::Keys,
    pools::Pools,
    records::{ClaimRecord, HeldClaim, Meta, NodeRecord, Observers, Record, SessionRecord, VerdictRecord},
    registry::{Entry, Listing, SharedRegistry, embedded::EmbeddedStore},
    store,
};

/// Of two agents.
fn observers(forwarding: bool) -> Observers {
    if forwarding { Observers { forwarding: 2, dead: 0 } } else { Observers { forwarding: 0, dead: 2 } }
}

const HOLD_DOWN: Duration = Duration::from_secs(10);

fn name(node: &str) -> NodeName {
    node.parse().unwrap()
}

/// A node, and what is known of it.
struct Known {
    name: &'static str,
    state: NodeState,
    announced: bool,
    session: bool,
    forwarding: Option<bool>,
}

/// Announced, and without an agent.
const GONE: Known =
    Known { name: "h1", state: NodeState::Ready, announced: true, session: false, forwarding: None };
/// Announced, with an agent.
const LIVE: Known = Known { name: "h9", session: true, ..GONE };

fn state(meta: &Meta, nodes: &[Known]) -> State {
    let keys = Keys::new(&"default".parse().unwrap());
    let mut puts = vec![(keys.meta(), meta.encode())];
    for (number, known) in nodes.iter().enumerate() {
        let (name, node_id) = (name(known.name), NodeId::random());
        let prefix = "fd00::/48".parse::<sextant_proto::Prefix>().unwrap().nth(64, number as u128).unwrap();
        let pool: sextant_proto::PoolName = "main".parse().unwrap();
        let address = InterfaceAddress {
            addr: "2001:db8::1".parse().unwrap(),
            on_link: "2001:db8::/64".parse().unwrap(),
        };
        let uplink = Uplink { interface: "eth0".into(), addresses: vec![address] };
        let node = NodeRecord {
            state: known.state,
            uplinks: if known.announced { vec![uplink] } else { vec![] },
            since_unix_ms: 0,
            ..NodeRecord::new(
                node_id,
                HeldClaim {
                    announced: known.state != NodeState::Joining,
                    ..HeldClaim::new(prefix, pool.clone())
                },
            )
        };
        let claim = ClaimRecord { node: name.clone(), node_id, pool, claimed_unix_ms: 0, prior: None };
        puts.extend([(keys.claim(prefix), claim.encode()), (keys.node(&name), node.encode())]);
        let session = SessionRecord { controller: "c1".into(), instance: None, serial: String::new() };
        puts.extend(known.session.then(|| (keys.session(&name), session.encode())));
        let verdict = |forwarding| VerdictRecord::of(observers(forwarding), 0);
        puts.extend(known.forwarding.map(|it| (keys.verdict(&name, "c1"), verdict(it).encode())));
    }
    let entry = |(key, value)| Entry { key, value, created: Revision(1), modified: Revision(1), lease: None };
    let listing = Listing { revision: Revision(1), entries: puts.into_iter().map(entry).collect() };
    State::new(keys, meta.clone(), &listing).unwrap()
}

#[test]
fn only_a_host_that_is_surely_gone_is_down() {
    let new = Meta::new();
    let stands_in = Meta { replaces: Some(sextant_proto::Incarnation::random()), ..Meta::new() };
    let restoring = Meta { restoring: true, ..Meta::new() };
    for (what, meta, node, others, expected) in [
        ("it has an agent", &new, Known { session: true, ..GONE }, true, None),
        ("a peer sees it forward", &new, Known { forwarding: Some(true), ..GONE }, true, None),
        ("peers see it dead", &new, Known { forwarding: Some(false), ..GONE }, true, Some(HOLD_DOWN)),
        ("nobody says anything yet", &new, GONE, true, Some(UNSEEN)),
        ("nobody is there to say anything", &new, GONE, false, None),
        ("nobody routes to it", &new, Known { announced: false, ..GONE }, false, Some(HOLD_DOWN)),
        ("it was drained by hand", &new, Known { state: NodeState::Drained, ..GONE }, true, None),
        ("its store was lost, it may come back", &stands_in, GONE, true, None),
        ("a restore is under way", &restoring, GONE, true, None),
    ] {
        let nodes: Vec<_> = std::iter::once(node).chain(others.then_some(LIVE)).collect();
        assert_eq!(down(&state(meta, &nodes), HOLD_DOWN).get(&name("h1")), expected.as_ref(), "{what}");
    }
    let long = Duration::from_secs(3600);
    assert_eq!(down(&state(&new, &[GONE, LIVE]), long)[&name("h1")], long, "hold_down is longer");
}

#[test]
fn only_who_is_down_all_the_time_is_due() {
    let names = |names: &[&str]| -> BTreeMap<_, _> { names.iter().map(|it| (name(it), HOLD_DOWN)).collect() };
    let (mut since, start) = (BTreeMap::new(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(due(&mut since, names(&["h1", "h2"]), at(0)).is_empty());
    assert!(due(&mut since, names(&["h1"]), at(5)).is_empty(), "h2 was back for a moment");
    assert_eq!(due(&mut since, names(&["h1", "h2"]), at(10)), [name("h1")]);
    assert_eq!(due(&mut since, names(&["h1", "h2"]), at(20)).len(), 2);
    assert!(due(&mut since, names(&[]), at(99)).is_empty());
}

/// Another controller, which has an ack of this node's agent.
struct Elsewhere(Acks, NodeName);

#[async_trait::async_trait]
impl Refresh for Elsewhere {
    async fn refresh(&self) -> bool {
        let applied = Applied { ack: Ack::default(), version: String::new() };
        self.0.keep_remote([(self.1.clone(), applied)].into());
        true
    }
}

#[tokio::test]
async fn a_node_whose_agent_any_controller_hears_is_not_down() {
    let dir = tempfile::tempdir().unwrap();
    let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
    let keys = Keys::new(&"test".parse().unwrap());
    let meta = store::open(&registry, &keys).await.unwrap();
    let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
    tokio::spawn(task.run());
    let pools = Pools::new(registry.clone(), keys.clone(), index.clone());
    let pool = Pool::new("main".parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
    pools.add(&pool).await.unwrap();
    let claims = Claims::new(registry, keys, index.clone(), Duration::ZERO);
    for node in ["h1", "h2"] {
        let request = ClaimRequest {
            node: name(node),
            node_id: NodeId::random(),
            pool: None,
            host_len: None,
            held: None,
            ancestors: vec![],
            unproven: None,
            beside: false,
            infrastructure: vec![],
            pool_order: vec![],
            accept_pools: vec![],
        };
        claims.claim(&request).await.unwrap();
    }
    let acks = Acks::new(index.clone());
    let others = Arc::new(Elsewhere(acks.clone(), name("h1")));
    let mut expiry = Expiry::new(claims, index.clone(), acks, others, Some(Duration::ZERO));
    expiry.end_held_down(Duration::ZERO).await;
    let left: Vec<_> = index.read(|state| state.nodes().keys().map(ToString::to_string).collect());
    assert_eq!(left, ["h1"]);
}
