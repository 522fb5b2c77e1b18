//! Nodes with claims in several pools.

mod reported;

use std::collections::BTreeSet;

use sextant_proto::NodeState;

use super::{tests::*, *};
use crate::{
    lineage,
    records::{Meta, ReservationRecord},
    reservations::{ReservationError, Reservations},
    store,
};

/// A store with the pools `main`, `ula` and `spare`.
async fn pools() -> Fixture {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    it.pools.add(&pool("ula", "fd00:1::/48", 64)).await.unwrap();
    it.pools.add(&pool("spare", "fd00:2::/48", 64)).await.unwrap();
    it
}

fn in_pool(request: &ClaimRequest, pool: &str) -> ClaimRequest {
    ClaimRequest { pool: Some(pool.parse().unwrap()), beside: true, ..request.clone() }
}

fn holding(request: &ClaimRequest, claim: &Claim) -> ClaimRequest {
    ClaimRequest { held: Some(claim.clone()), ..in_pool(request, claim.pool.name.as_str()) }
}

/// A node that has claimed in `main` and in `ula`.
struct Two {
    it: Fixture,
    request: ClaimRequest,
    main: Claim,
    ula: Claim,
}

impl Two {
    async fn new() -> Self {
        let (it, request) = (pools().await, request(1));
        let main = it.claim(&in_pool(&request, "main")).await;
        let ula = it.claim(&in_pool(&request, "ula")).await;
        Self { it, request, main, ula }
    }

    /// The same, announced for both.
    async fn ready() -> Self {
        let two = Self::new().await;
        two.announces(&[&two.main, &two.ula]).await;
        two
    }

    fn holder(&self) -> Holder {
        holder(&self.request, &self.main)
    }

    async fn announces(&self, claims: &[&Claim]) {
        self.announces_in(&[], claims).await;
    }

    /// Announces these claims, by an agent with this order of its pools.
    async fn announces_in(&self, order: &[&str], claims: &[&Claim]) {
        let claims = claims
            .iter()
            .map(|claim| AnnouncedClaim { epoch: claim.epoch, container_prefixes: vec![claim.prefix] });
        let announcement =
            Announcement { uplinks: vec![], claims: claims.collect(), pool_order: names(order) };
        self.it.claims.announce(&self.holder(), &announcement, None).await.unwrap();
    }

    async fn record(&self) -> NodeRecord {
        self.it.claims.node_status(&self.request.node).await.unwrap().node.unwrap().record
    }

    /// The state of the node for each of its claims.
    async fn states(&self) -> Vec<NodeState> {
        let record = self.record().await;
        record.claims.iter().map(|claim| record.state_for(claim)).collect()
    }

    async fn pools(&self) -> Vec<String> {
        self.record().await.claims.iter().map(|claim| claim.pool.to_string()).collect()
    }

    async fn forget_ula(&self) {
        assert_eq!(self.forget("ula").await, [(self.request.node.clone(), vec![self.ula.prefix])]);
    }

    /// Forgets the node's claim in `pool`; what ended.
    async fn forget(&self, pool: &str) -> Vec<(NodeName, Vec<Prefix>)> {
        let (pool, name) = (pool.parse().unwrap(), [self.request.node.clone()]);
        self.it.claims.forget_all(&name, Scope::Pool(&pool), true, None).await.unwrap().ended
    }

    async fn meta(&self) -> Meta {
        meta(&self.it).await
    }
}

fn names(pools: &[&str]) -> Vec<PoolName> {
    pools.iter().map(|pool| pool.parse().unwrap()).collect()
}

async fn meta(it: &Fixture) -> Meta {
    store::read(&it.registry, &it.keys).await.unwrap().meta
}

#[tokio::test]
async fn a_second_claim_leaves_the_first_as_it_is() {
    let (it, request) = (pools().await, request(1));
    let main = it.claim(&in_pool(&request, "main")).await;
    it.claims.announce(&holder(&request, &main), &set_up(&holder(&request, &main)), None).await.unwrap();
    let ula = it.claim(&in_pool(&request, "ula")).await;
    let two = Two { it, request, main, ula };
    assert_eq!(two.states().await, [NodeState::Ready, NodeState::Joining]);
    assert_ne!(two.main.epoch, two.ula.epoch);
    for claim in [&two.main, &two.ula] {
        let before = two.it.registry.list(&two.it.keys.all()).await.unwrap().revision;
        let pool = claim.pool.name.as_str();
        assert_eq!(two.it.claim(&in_pool(&two.request, pool)).await, *claim, "it holds that one already");
        assert_eq!(two.it.claim(&holding(&two.request, claim)).await, *claim, "I2");
        assert_eq!(two.it.registry.list(&two.it.keys.all()).await.unwrap().revision, before, "I8");
    }
}

#[tokio::test]
async fn a_node_is_ready_for_just_what_it_announces() {
    let two = Two::ready().await;
    assert_eq!(two.states().await, [NodeState::Ready; 2]);
    two.announces(&[&two.main]).await;
    assert_eq!(two.states().await, [NodeState::Ready, NodeState::Joining]);
    two.announces(&[&two.ula]).await;
    assert_eq!(two.states().await, [NodeState::Joining, NodeState::Ready]);
    two.announces(&[]).await;
    assert_eq!(
        (two.record().await.state, two.states().await),
        (NodeState::Joining, vec![NodeState::Joining; 2])
    );
    two.announces(&[&two.main, &two.ula]).await;
    assert_eq!(two.states().await, [NodeState::Ready; 2]);
}

#[tokio::test]
async fn claims_are_in_the_order_of_the_agents_pools() {
    let two = Two::ready().await;
    two.forget("main").await;
    let in_order = |order: &[&str]| ClaimRequest { pool_order: names(order), ..two.request.clone() };
    let main = two.it.claim(&in_pool(&in_order(&["main", "ula"]), "main")).await;
    assert_eq!(two.pools().await, ["main", "ula"], "the primary one is first, although it is the newer one");
    two.it.claim(&in_pool(&in_order(&[]), "spare")).await;
    assert_eq!(two.pools().await, ["main", "ula", "spare"], "an earlier version's agent: by age");

    let two = Two { main, ..two };
    two.announces_in(&["spare", "main"], &[&two.main, &two.ula]).await;
    assert_eq!(
        two.pools().await,
        ["spare", "main", "ula"],
        "other settings, also of a claim that is not set up"
    );
    let peer = two.it.claims.index.read(|state| state.peers()[&two.request.node].clone());
    assert_eq!(peer.primary().unwrap().pool.as_str(), "spare");
    two.announces(&[&two.main, &two.ula]).await;
    assert_eq!(two.pools().await, ["spare", "main", "ula"], "stays");
}

#[tokio::test]
async fn i3_the_end_of_one_claim_fences_its_epoch_alone() {
    let two = Two::ready().await;
    let before = two.record().await.claims[0].clone();
    two.forget_ula().await;
    let record = two.record().await;
    assert_eq!((record.state, record.claims), (NodeState::Ready, vec![before]));
    two.it.claims.verify(&two.holder()).await.unwrap();
    let ended = two.it.claims.verify(&holder(&two.request, &two.ula)).await.unwrap_err();
    assert!(matches!(ended, HolderError::Fenced(_)), "{ended}");
    let fenced = two.it.claims.claim(&holding(&two.request, &two.ula)).await.unwrap();
    assert!(matches!(fenced, Granted::Fenced(_)), "{fenced:?}");
    assert_eq!(two.it.claim(&holding(&two.request, &two.main)).await, two.main);
    let anew = two.it.claim(&in_pool(&two.request, "ula")).await;
    assert!(
        anew.epoch != two.ula.epoch && anew.prefix == two.ula.prefix,
        "its own quarantined one: {anew:?}"
    );
    assert_eq!(two.states().await, [NodeState::Ready, NodeState::Joining]);
}

#[tokio::test]
async fn a_pool_in_which_the_node_holds_nothing_is_refused() {
    let two = Two::ready().await;
    let spare = "spare".parse().unwrap();
    let name = [two.request.node.clone()];
    let error =
        two.it.claims.forget_all(&name, Scope::Pool(&spare), true, None).await.unwrap_err().to_string();
    assert!(
        error.contains("holds no claim in pool spare") && error.contains(&two.ula.prefix.to_string()),
        "{error}"
    );
    assert_eq!(two.record().await.claims.len(), 2);
}

#[tokio::test]
async fn a_drain_and_a_release_are_of_all_claims() {
    let two = Two::ready().await;
    let name = &two.request.node;
    two.it.claims.drain(name, Duration::from_secs(1)).await.unwrap();
    assert_eq!(two.states().await, [NodeState::Draining; 2]);
    two.it.claims.drained(&holder(&two.request, &two.ula), vec![]).await.unwrap();
    assert_eq!(two.states().await, [NodeState::Drained; 2]);
    two.announces(&[&two.main]).await;
    assert_eq!(two.states().await, [NodeState::Drained; 2]);
    two.it.claims.undrain(name).await.unwrap();
    assert_eq!(two.states().await, [NodeState::Joining; 2]);
    two.announces(&[&two.main, &two.ula]).await;
    two.it.claims.drain(name, Duration::from_secs(1)).await.unwrap();
    two.it.claims.drained(&two.holder(), vec![]).await.unwrap();
    two.it.claims.release(&two.holder()).await.unwrap();
    assert_eq!(two.it.nodes().await, 0);
    two.it.claims.index.read(|state| {
        assert!(state.claims().is_empty());
        let had: BTreeSet<_> = state.holdings().had(two.request.node_id).iter().copied().collect();
        assert_eq!(had, BTreeSet::from([two.main.prefix, two.ula.prefix]));
    });
}

#[tokio::test]
async fn i3_the_name_of_a_node_with_several_claims_is_its_own() {
    let two = Two::new().await;
    for pool in ["main", "ula", "spare"] {
        let error = two.it.claims.claim(&in_pool(&request(1), pool)).await.unwrap_err().to_string();
        let prefixes = format!("(prefix {}, {})", two.main.prefix, two.ula.prefix);
        assert!(error.contains("belongs to node id") && error.contains(&prefixes), "{error}");
    }
}

#[tokio::test]
async fn an_agent_that_knows_of_one_claim_gets_one_that_the_node_holds() {
    let two = Two::new().await;
    let old = ClaimRequest { beside: false, ..two.request.clone() };
    let of = |pool: &str| ClaimRequest { pool: Some(pool.parse().unwrap()), ..old.clone() };
    let held = ClaimRequest { held: Some(two.ula.clone()), ..old.clone() };
    assert_eq!(two.it.claim(&held).await, two.ula);
    assert_eq!(two.it.claim(&of("ula")).await, two.ula);
    assert_eq!(two.it.claim(&old).await, two.main, "the primary one");
    assert_eq!(two.it.claim(&of("spare")).await, two.main);
    assert_eq!(two.record().await.claims.len(), 2);
}

/// All nodes claim at two controllers at once; what each of them is granted.
async fn race(it: &Fixture, pools: [&str; 2], beside: bool) -> Vec<BTreeSet<Prefix>> {
    let controllers = [it.claims.clone(), it.another_controller().await];
    let requests: Vec<_> = (0..16).map(request).collect();
    let granted = requests.iter().map(|request| {
        let both = controllers.iter().zip(pools).map(|(claims, pool)| {
            let (claims, request) = (claims.clone(), ClaimRequest { beside, ..in_pool(request, pool) });
            tokio::spawn(async move {
                loop {
                    match claims.claim(&request).await {
                        Ok(Granted::Claim(claim)) => return claim.prefix,
                        Err(ClaimError::Contended) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        });
        futures::future::join_all(both.collect::<Vec<_>>())
    });
    let granted = futures::future::join_all(granted.collect::<Vec<_>>()).await;
    granted.into_iter().map(|both| both.into_iter().map(Result::unwrap).collect()).collect()
}

#[tokio::test]
async fn i1_claims_of_one_node_at_two_controllers_do_not_meet() {
    for (other, beside, expected) in [("ula", true, 2), ("main", true, 1), ("ula", false, 1)] {
        let it = pools().await;
        let granted = race(&it, ["main", other], beside).await;
        let claims = it.another_controller().await;
        for (n, prefixes) in granted.iter().enumerate() {
            assert_eq!(prefixes.len(), expected, "{other}, beside: {beside}");
            let node = claims.node_status(&request(n).node).await.unwrap().node.unwrap().record;
            assert_eq!(&node.prefixes().into_iter().collect::<BTreeSet<_>>(), prefixes);
        }
    }
}

/// The node claimed after its agent's request was found to be of a node that holds nothing.
#[tokio::test]
async fn an_agent_that_knows_of_one_claim_gets_no_second_one_by_a_race() {
    let (it, request) = (pools().await, request(1));
    let main = it.claim(&in_pool(&request, "main")).await;
    assert!(it.claims.index.reaches(main.epoch.revision, CATCH_UP).await);
    let late = ClaimRequest { beside: false, ..in_pool(&request, "ula") };
    assert_eq!(it.claims.try_new(&late, 0).await.unwrap(), None);
    assert_eq!(it.claim(&late).await, main);
}

#[tokio::test]
async fn the_stores_record_notes_the_form_for_several_claims_once() {
    let (it, request) = (pools().await, request(1));
    let main = it.claim(&in_pool(&request, "main")).await;
    assert!(!meta(&it).await.has_several_claims());
    let ula = it.claim(&in_pool(&request, "ula")).await;
    let two = Two { it, request, main, ula };
    let raised = two.meta().await;
    assert!(raised.has_several_claims());
    let key = crate::registry::KeyRange::key(&two.it.keys.meta());
    let modified = async || two.it.registry.list(&key).await.unwrap().entries[0].modified;
    let at = modified().await;
    two.it.claim(&in_pool(&two.request, "spare")).await;
    two.forget_ula().await;
    assert_eq!(modified().await, at, "it is written once");
    lineage::fork(&two.it.registry, &two.it.keys, raised.incarnation, "a test").await.unwrap();
    assert!(two.meta().await.has_several_claims(), "a fork keeps it");
}

#[tokio::test]
async fn the_form_for_several_claims_is_given_up_when_no_node_needs_it() {
    let two = Two::new().await;
    let lowering = async || format::lowering(&two.it.registry, &two.it.keys).await.unwrap();
    assert_eq!(lowering().await, None, "a node has two claims");
    two.forget_ula().await;
    let txn = lowering().await.unwrap();
    let before = two.meta().await;
    assert!(matches!(two.it.registry.commit(txn).await.unwrap(), Outcome::Committed(_)));
    assert_eq!(two.meta().await, before.without_several_claims());
    assert_eq!(lowering().await, None, "it is given up already");
    two.it.claim(&in_pool(&two.request, "spare")).await;
    assert!(two.meta().await.has_several_claims(), "and noted again");
}

/// Neither order of a second claim and of the end of the form leaves a record in the store that its format denies.
#[tokio::test]
async fn the_end_of_the_form_and_a_second_claim_do_not_overlook_each_other() {
    let two = Two::new().await;
    two.forget_ula().await;
    let late = format::lowering(&two.it.registry, &two.it.keys).await.unwrap().unwrap();
    let before = two.meta().await;
    two.it.claim(&in_pool(&two.request, "spare")).await;
    assert_eq!(two.meta().await, before, "the store's record says so already");
    assert!(matches!(two.it.registry.commit(late).await.unwrap(), Outcome::Refused(_)));
    assert!(two.meta().await.has_several_claims());

    let stored = two.it.registry.list(&two.it.keys.all()).await.unwrap().revision;
    assert!(two.it.claims.index.reaches(stored, CATCH_UP).await);
    let node = two.it.claims.index.read(|state| state.nodes()[&two.request.node].record.clone());
    let stale = two.it.claims.index.read(|state| format::put(state, &two.it.keys, &two.request.node, &node));
    two.forget("spare").await;
    let txn = format::lowering(&two.it.registry, &two.it.keys).await.unwrap().unwrap();
    two.it.registry.commit(txn).await.unwrap();
    assert!(matches!(two.it.registry.commit(stale).await.unwrap(), Outcome::Refused(_)));
}

/// One claim whose node announces more than the form for one claim can say.
#[tokio::test]
async fn the_stores_record_notes_an_announcement_that_needs_the_form() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let (holder, claim) = it.joining(1).await;
    let bridges = (0..2).map(|n| claim.prefix.nth(80, n).unwrap()).collect();
    let claims = vec![AnnouncedClaim { epoch: claim.epoch, container_prefixes: bridges }];
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    assert!(!meta(&it).await.has_several_claims());
    it.claims
        .announce(&holder, &Announcement { uplinks: vec![], claims, pool_order: vec![] }, None)
        .await
        .unwrap();
    assert!(meta(&it).await.has_several_claims());
}

#[tokio::test]
async fn a_node_has_one_reservation_per_pool() {
    let it = pools().await;
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone());
    let reserve = async |prefix: &str| {
        let record = ReservationRecord {
            node: Some("host1".parse().unwrap()),
            reason: "test".into(),
            created_unix_ms: 1,
        };
        reservations.reserve(prefix.parse().unwrap(), &record).await
    };
    reserve("2001:db8:1:7::/64").await.unwrap();
    reserve("fd00:1:0:7::/64").await.unwrap();
    let error = reserve("fd00:1:0:8::/64").await.unwrap_err();
    assert!(matches!(error, ReservationError::HasOne { .. }), "{error}");
    let host = request(1);
    assert_eq!(it.claim(&in_pool(&host, "ula")).await.prefix.to_string(), "fd00:1:0:7::/64");
    assert_eq!(it.claim(&in_pool(&host, "main")).await.prefix.to_string(), "2001:db8:1:7::/64");
    assert_eq!(it.claim(&in_pool(&host, "spare")).await.pool.name.as_str(), "spare");
}

#[tokio::test]
async fn a_closed_pool_keeps_its_claims_and_takes_no_other() {
    let two = Two::new().await;
    for pool in ["ula", "spare"] {
        two.it.pools.drain(&pool.parse().unwrap(), true).await.unwrap();
    }
    assert_eq!(two.it.claim(&holding(&two.request, &two.ula)).await, two.ula);
    let error = two.it.claims.claim(&in_pool(&two.request, "spare")).await.unwrap_err();
    assert!(matches!(error, ClaimError::Closed(_)), "{error}");
}
