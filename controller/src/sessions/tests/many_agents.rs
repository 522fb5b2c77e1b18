//! Many agents and a slow store: the lease is renewed during the calls for all of them, and their sessions stay.

use futures::future::join_all;
use sextant_proto::{NodeId, NodeState, Prefix};

use super::{
    slow_store::{DELAY, Pace, SlowStore},
    *,
};
use crate::{
    index::IndexTask,
    records::{ClaimRecord, HeldClaim, NodeRecord},
};

const TTL: Duration = Duration::from_secs(15);

/// A controller, and the streams of agents to it.
struct Fixture {
    store: Arc<SlowStore>,
    sessions: Sessions,
}

impl Fixture {
    async fn new() -> Self {
        let store = SlowStore::new();
        let me =
            Identity { id: "c1".into(), address: String::new(), replaces: Replaces::None, tls: TlsMode::Off };
        let sessions = Sessions::new(store.clone(), keys(), me, TTL, Heartbeat::unwatched());
        sessions.keep_lease().await.unwrap();
        Self { store, sessions }
    }

    /// Agents of nodes with this prefix connect.
    async fn connect(&self, prefix: &str, agents: usize) -> Vec<Attachment> {
        let connect = async |n| {
            let node = format!("{prefix}{n}").parse().unwrap();
            let attachment = self.sessions.attach(&node, None, None).unwrap();
            attachment.put_session().await.unwrap();
            attachment
        };
        join_all((0..agents).map(connect)).await
    }

    /// An index that sees claims of `agents` nodes of [`connect`](Self::connect) with prefix `h`, and no session.
    async fn index(&self, agents: usize) -> Index {
        let registry = &self.store.inner;
        let meta = crate::store::open(registry, &keys()).await.unwrap();
        for n in 0..agents {
            registry.commit(Txn { guards: vec![], ops: claim(n).into() }).await.unwrap();
        }
        IndexTask::start(registry.clone(), keys(), meta).await.unwrap().1
    }

    /// Another controller ends all sessions.
    async fn delete_sessions(&self) {
        for entry in self.store.sessions() {
            let ops = vec![Op::Delete(entry.key)];
            self.store.inner.commit(Txn { guards: vec![], ops }).await.unwrap();
        }
    }

    /// All agents with these streams are lost.
    async fn lose(&self, streams: Vec<Attachment>) {
        drop(streams);
        for _ in 0..KEEP_ALIVES_PER_TTL {
            tokio::time::advance(TTL / KEEP_ALIVES_PER_TTL).await;
            self.sessions.keep_lease().await.unwrap();
        }
    }
}

/// The claim of node `h<n>`.
fn claim(n: usize) -> [Op; 2] {
    let (name, node_id): (NodeName, _) = (format!("h{n}").parse().unwrap(), NodeId::random());
    let prefix = "fd00::/48".parse::<Prefix>().unwrap().nth(64, n as u128).unwrap();
    let pool: PoolName = "main".parse().unwrap();
    let held = HeldClaim { announced: true, ..HeldClaim::new(prefix, pool.clone()) };
    let node = NodeRecord { state: NodeState::Ready, ..NodeRecord::new(node_id, held) };
    let claim = ClaimRecord { node: name.clone(), node_id, pool, claimed_unix_ms: 0, prior: None };
    [Op::put(keys().claim(prefix), claim.encode()), Op::put(keys().node(&name), node.encode())]
}

/// The agents that are back at once: the store answers all of them within one TTL.
const BACK: usize = 400;

/// The numbers of agents, the pace of the store, and the most TTLs in which two calls for each agent are done.
const TABLE: [(usize, Pace, u32); 4] =
    [(400, Pace::Late, 1), (400, Pace::OneByOne, 2), (2000, Pace::Late, 1), (2000, Pace::OneByOne, 7)];

#[tokio::test(start_paused = true)]
async fn all_sessions_are_back_after_an_ended_lease() {
    for (agents, pace, ttls) in TABLE {
        let it = Fixture::new().await;
        let _streams = it.connect("h", agents).await;
        tokio::time::advance(2 * TTL).await;
        assert_eq!(it.store.sessions(), []);
        it.store.slow_down(pace);
        let start = Instant::now();
        it.sessions.keep_lease().await.unwrap();
        let took = start.elapsed();
        assert!(took <= ttls * TTL, "{agents} {pace:?}: {took:?}");
        let back = it.store.sessions();
        assert_eq!(back.len(), agents, "{pace:?}");
        it.sessions.keep_lease().await.unwrap();
        assert_eq!(it.store.sessions(), back, "{agents} {pace:?}: moved again");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_lost_agents_sessions_leave_those_of_connected_agents() {
    for (agents, pace, ttls) in TABLE {
        let it = Fixture::new().await;
        let _connected = it.connect("connected", 3).await;
        let connected = it.store.sessions();
        let lost = it.connect("lost", agents).await;
        it.lose(lost).await;
        it.store.slow_down(pace);
        let start = Instant::now();
        it.sessions.end_lost(&mut Outage::default()).await;
        let took = start.elapsed();
        assert!(took <= ttls * TTL, "{agents} {pace:?}: {took:?}");
        assert_eq!(it.store.sessions(), connected, "{agents} {pace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn agents_that_are_back_keep_their_sessions_while_lost_ones_are_ended() {
    for (agents, pace, _) in TABLE {
        let it = Fixture::new().await;
        let lost = it.connect("h", agents).await;
        it.lose(lost).await;
        it.store.slow_down(pace);
        let mut outage = Outage::default();
        let back = async {
            tokio::time::sleep(2 * DELAY).await;
            it.connect("h", BACK).await
        };
        let (_streams, ()) = tokio::join!(back, it.sessions.end_lost(&mut outage));
        assert_eq!(it.store.sessions().len(), BACK, "{agents} {pace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn missing_sessions_are_put_again_and_the_lease_is_kept() {
    for (agents, pace, ttls) in TABLE {
        let it = Fixture::new().await;
        let index = it.index(agents).await;
        let _streams = it.connect("h", agents).await;
        let lease = it.sessions.lease();
        it.sessions.put_missing(&index).await;
        tokio::time::advance(TTL / KEEP_ALIVES_PER_TTL).await;
        it.delete_sessions().await;
        it.store.slow_down(pace);
        let start = Instant::now();
        it.sessions.put_missing(&index).await;
        let took = start.elapsed();
        assert!(took <= ttls * TTL, "{agents} {pace:?}: {took:?}");
        let there = it.store.sessions();
        assert_eq!(there.len(), agents, "{pace:?}");
        assert!(there.iter().all(|entry| entry.lease == lease), "{agents} {pace:?}");
    }
}
