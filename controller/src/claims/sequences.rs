//! Random sequences of all operations on claims, on a real store.

use proptest::prelude::*;
use sextant_backup_file::Backup;
use sextant_proto::PoolName;

use super::{tests::Fixture, *};
use crate::{
    backup,
    index::Kind,
    records::{Record, ReservationRecord, SessionRecord},
    registry::{Op, Outcome, Txn},
    reservations::Reservations,
    store,
};

#[derive(Debug, Clone)]
enum Step {
    Claim(usize, Option<u32>),
    /// Its agent connects or disconnects.
    Session(usize, bool),
    /// `sextant node forget`: refused while its agent is connected, unless forced.
    Forget(usize, bool),
    /// Its claim is due to end by hold-down.
    HoldDown(usize),
    Reserve(u128, u8, Option<usize>),
    Unreserve(usize),
    Drain(bool),
    Grow(u8),
    QuarantineOver,
    Backup,
    /// Of the last backup; refused if it conflicts.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![3 => Just(None), 1 => (57u32..=66).prop_map(Some)];
    prop_oneof![
        6 => (0usize..12, len).prop_map(|(node, len)| Step::Claim(node, len)),
        2 => (0usize..12, any::<bool>()).prop_map(|(node, connects)| Step::Session(node, connects)),
        3 => (0usize..12, any::<bool>()).prop_map(|(node, force)| Step::Forget(node, force)),
        1 => (0usize..12).prop_map(Step::HoldDown),
        2 => (0u128..128, 58u8..=66, proptest::option::of(0usize..12))
            .prop_map(|(at, len, node)| Step::Reserve(at, len, node)),
        1 => (0usize..8).prop_map(Step::Unreserve),
        1 => any::<bool>().prop_map(Step::Drain),
        1 => (56u8..=60).prop_map(Step::Grow),
        1 => Just(Step::QuarantineOver),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
    ]
}

fn main_pool() -> PoolName {
    "main".parse().unwrap()
}

/// The pool begins with 16 /64.
struct Sequence {
    it: Fixture,
    reservations: Reservations,
    ids: Vec<NodeId>,
    backup: std::cell::RefCell<Option<Backup>>,
}

impl Sequence {
    async fn start() -> Self {
        let it = Fixture::new(Some(("2001:db8:1::/60", 64))).await;
        let claims = &it.claims;
        let reservations =
            Reservations::new(claims.registry.clone(), claims.keys.clone(), claims.index.clone());
        Self { it, reservations, ids: (0..12).map(|_| NodeId::random()).collect(), backup: None.into() }
    }

    fn name(node: usize) -> NodeName {
        format!("host{node}").parse().unwrap()
    }

    async fn take(&self, step: &Step) {
        let claims = &self.it.claims;
        match step {
            Step::Claim(node, host_len) => self.claim(*node, *host_len).await,
            Step::Session(node, connects) => self.session(*node, *connects).await,
            Step::Forget(node, force) => {
                let (name, state) = (Self::name(*node), self.liveness(*node));
                self.ended(state, *force, claims.forget(&name, *force).await).await;
            }
            Step::HoldDown(node) => {
                let (name, state) = (Self::name(*node), self.liveness(*node));
                self.ended(state, false, claims.hold_down(&name).await).await;
            }
            Step::Reserve(at, len, node) => {
                let inside = "2001:db8:1::/57".parse::<Prefix>().unwrap().nth(64, *at).unwrap();
                let prefix = inside.ancestor(*len).or_else(|| inside.nth(*len, 1)).unwrap();
                let record = ReservationRecord {
                    node: node.map(Self::name),
                    reason: "test".into(),
                    created_unix_ms: 0,
                };
                let _refused = self.reservations.reserve(prefix, &record).await;
            }
            Step::Unreserve(index) => {
                let nth =
                    claims.index.read(|state| state.holdings().reservations().keys().nth(*index).copied());
                if let Some(prefix) = nth {
                    self.reservations.unreserve(prefix).await.unwrap();
                }
            }
            Step::Drain(draining) => drop(self.it.pools.drain(&main_pool(), *draining).await.unwrap()),
            Step::Grow(len) => {
                let to = "2001:db8:1::/60".parse::<Prefix>().unwrap().ancestor(*len).unwrap();
                let _smaller = self.it.pools.grow(&main_pool(), to).await;
            }
            Step::QuarantineOver => {
                let over = Claims { quarantine: Duration::ZERO, ..claims.clone() };
                over.end_quarantines().await.unwrap();
            }
            Step::Backup => {
                let backup = backup::take(&claims.registry, &claims.keys, "test").await.unwrap();
                self.backup.replace(Some(backup));
            }
            Step::Restore => {
                let backup = self.backup.borrow().clone();
                if let Some(backup) = backup {
                    self.restore(&backup).await;
                }
            }
        }
    }

    /// Its agent has a session from now on, or has none any more.
    async fn session(&self, node: usize, connects: bool) {
        let Claims { registry, keys, index, .. } = &self.it.claims;
        let key = keys.session(&Self::name(node));
        let record = SessionRecord { controller: "here".into(), instance: None };
        let op = if connects { Op::put(key, record.encode()) } else { Op::Delete(key) };
        let outcome = registry.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        let Outcome::Committed(revision) = outcome else { panic!("{outcome:?}") };
        assert!(index.reaches(revision, CATCH_UP).await);
    }

    fn liveness(&self, node: usize) -> Liveness {
        let name = Self::name(node);
        self.it.claims.index.read(|state| Liveness {
            holds: state.nodes().contains_key(&name),
            connected: state.sessions().contains_key(&name),
        })
    }

    /// A claim ended, or not: never one of a node that is connected, unless by force.
    async fn ended(&self, was: Liveness, force: bool, ended: Result<(Vec<Prefix>, Revision), ForgetError>) {
        match ended {
            Ok((_, revision)) => {
                assert!(was.holds && (force || !was.connected), "{was:?}, force: {force}");
                assert!(self.it.claims.index.reaches(revision, CATCH_UP).await);
            }
            Err(ForgetError::Unknown(_)) => assert!(!was.holds, "{was:?}"),
            Err(ForgetError::Up { .. }) => assert!(was.connected && !force, "{was:?}, force: {force}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Restores the backup and closes the recovery window; checks that a refused restore changes nothing.
    async fn restore(&self, backup: &Backup) {
        let claims = &self.it.claims;
        let Claims { registry, keys, index, by, .. } = claims;
        let content = async || registry.list(&keys.all()).await.unwrap().entries;
        let before = content().await;
        match backup::restore(registry, keys, backup, by).await {
            Ok(restored) => {
                assert!(index.reaches(restored.revision, CATCH_UP).await);
                let finished = store::finish(registry, keys, index, by).await.unwrap();
                assert!(index.reaches(finished.revision, CATCH_UP).await);
            }
            Err(backup::RestoreError::Conflicts(_)) => assert_eq!(content().await, before),
            Err(error) => panic!("{error}"),
        }
    }

    /// Claims, and checks the result against the state before.
    async fn claim(&self, node: usize, host_len: Option<u32>) {
        let claims = &self.it.claims;
        let name = Self::name(node);
        let request = ClaimRequest {
            node: name.clone(),
            node_id: self.ids[node],
            pool: None,
            host_len,
            held: None,
            beside: false,
        };
        let before = claims.index.read(|state| Before::of(state, &name));
        let granted = claims.claim(&request).await;
        let is_closed = before.pool.draining && before.held.is_none();
        match granted {
            Ok(Granted::Claim(claim)) => {
                before.allows(&request, claim.prefix);
                // The next step is checked against the index.
                assert!(claims.index.reaches(claim.epoch.revision, CATCH_UP).await);
            }
            Ok(Granted::Fenced(why)) => panic!("{why}"),
            Err(ClaimError::Closed(_)) => assert!(is_closed),
            Err(ClaimError::HostLength { .. }) => {
                assert!(host_len.is_some_and(|len| len < before.pool.prefix.len().into()));
            }
            Err(ClaimError::Exhausted { .. }) => {
                let len = u8::try_from(host_len.unwrap_or(64)).unwrap();
                assert!(!before.any_free(len, false), "something of /{len} was free: {before:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// I1, and that the search tree agrees with the records.
    fn check(&self) {
        self.it.claims.index.read(|state| {
            let before = Before::of(state, &Self::name(99));
            for (n, a) in before.claims.iter().enumerate() {
                assert!(before.claims[..n].iter().all(|b| !a.0.overlaps(b.0)), "I1: {before:?}");
                for (prefix, node) in &before.reservations {
                    let its_own = *prefix == a.0 && node.as_ref() == Some(&a.1);
                    assert!(its_own || !prefix.overlaps(a.0), "I1: {before:?}");
                }
                assert!(before.pool.prefix.covers(a.0));
            }
            let names: std::collections::BTreeSet<_> = before.claims.iter().map(|it| &it.1).collect();
            assert_eq!(names.len(), before.claims.len(), "a node has two claims");
            let all = "::/0".parse().unwrap();
            let taken = before.claims.len() + before.reservations.len();
            assert_eq!(state.holdings().occupied().count(all, Kind::Taken) as usize, taken);
            assert_eq!(
                state.holdings().occupied().count(all, Kind::Quarantined) as usize,
                before.freed.len()
            );
        });
    }
}

/// A node before its claim was to end.
#[derive(Debug, Clone, Copy)]
struct Liveness {
    holds: bool,
    connected: bool,
}

/// The state before a claim.
#[derive(Debug)]
struct Before {
    pool: Pool,
    held: Option<Prefix>,
    claims: Vec<(Prefix, NodeName)>,
    reservations: Vec<(Prefix, Option<NodeName>)>,
    freed: Vec<(Prefix, NodeId)>,
    reserved: Option<Prefix>,
}

impl Before {
    fn of(state: &crate::index::State, node: &NodeName) -> Self {
        let reserved = |it: &(Prefix, Option<NodeName>)| it.1.as_ref() == Some(node);
        let reservations: Vec<_> = state
            .holdings()
            .reservations()
            .iter()
            .map(|(prefix, view)| (*prefix, view.record.node.clone()))
            .collect();
        Self {
            pool: state.pools()[&main_pool()].record.clone(),
            held: state.nodes().get(node).map(|node| node.record.claims[0].prefix),
            claims: state.claims().iter().map(|(prefix, view)| (*prefix, view.record.node.clone())).collect(),
            reserved: reservations.iter().find(|it| reserved(it)).map(|it| it.0),
            reservations,
            freed: state
                .holdings()
                .freed()
                .iter()
                .map(|(prefix, view)| (*prefix, view.record.node_id))
                .collect(),
        }
    }

    fn allows(&self, request: &ClaimRequest, got: Prefix) {
        if let Some(held) = self.held {
            assert_eq!(got, held, "I2: it keeps what it holds");
        } else if let Some(reserved) = self.reserved {
            assert_eq!(got, reserved, "it gets just what is reserved for it");
        } else {
            assert!(self.is_free(got), "{got} was not free: {self:?}");
            assert_eq!(u32::from(got.len()), request.host_len.unwrap_or(64));
            let quarantined =
                self.freed.iter().any(|(prefix, id)| prefix.overlaps(got) && *id != request.node_id);
            assert!(
                !quarantined || !self.any_free(got.len(), true),
                "{got} is quarantined, and others are free: {self:?}"
            );
        }
    }

    fn is_free(&self, prefix: Prefix) -> bool {
        let taken = self.claims.iter().map(|it| it.0).chain(self.reservations.iter().map(|it| it.0));
        taken.into_iter().all(|other| !other.overlaps(prefix))
    }

    /// Whether any prefix of this length is free; `fresh`: and not quarantined.
    fn any_free(&self, len: u8, fresh: bool) -> bool {
        let all = (0..self.pool.prefix.count(len)).filter_map(|n| self.pool.prefix.nth(len, n));
        let quarantined = |it: Prefix| self.freed.iter().any(|(prefix, _)| prefix.overlaps(it));
        all.into_iter().any(|it| self.is_free(it) && !(fresh && quarantined(it)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn i1_no_sequence_makes_an_overlap(steps in proptest::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sequence = Sequence::start().await;
            for step in &steps {
                sequence.take(step).await;
                sequence.check();
            }
        });
    }
}
