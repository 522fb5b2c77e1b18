//! Who may announce, drain and acknowledge, and for which claims (I3, I14).

use sextant_proto::NodeState;

use super::{address_plan::Meanwhile, tests::*, *};
use crate::{records::Meta, registry::KeyRange};

async fn cluster() -> Fixture {
    Fixture::new(Some(("2001:db8:1::/48", 64))).await
}

async fn record(it: &Fixture, holder: &Holder) -> NodeRecord {
    it.claims.node_status(&holder.node).await.unwrap().node.unwrap().record
}

async fn revision(it: &Fixture) -> Revision {
    it.registry.list(&it.keys.all()).await.unwrap().revision
}

/// With these container prefixes.
fn with(holder: &Holder, container_prefixes: Vec<Prefix>) -> Announcement {
    let claims = vec![AnnouncedClaim { epoch: holder.epoch, container_prefixes }];
    Announcement { claims, ..set_up(holder) }
}

#[tokio::test]
async fn i14_a_container_prefix_outside_of_the_host_prefix_is_refused_and_nothing_is_taken() {
    let it = cluster().await;
    let (holder, claim) = it.joining(1).await;
    let (_, other) = it.announced(2).await;
    let before = revision(&it).await;
    let inside = claim.prefix.nth(80, 3).unwrap();
    for outside in [other.prefix, claim.prefix.ancestor(63).unwrap(), "2001:db8::/80".parse().unwrap()] {
        let announcement = with(&holder, vec![inside, outside]);
        let error = it.claims.announce(&holder, &announcement, None).await.unwrap_err();
        assert!(matches!(&error, HolderError::Outside { container, .. } if *container == outside), "{error}");
    }
    assert_eq!(revision(&it).await, before);
    it.claims.announce(&holder, &with(&holder, vec![inside, claim.prefix]), None).await.unwrap();
    assert_eq!(record(&it, &holder).await.claims[0].container_prefixes, [inside, claim.prefix]);
}

#[tokio::test]
async fn i3_only_who_holds_the_claim_by_id_and_epoch_is_its_holder() {
    let it = cluster().await;
    let asking = request(1);
    let ended = holder(&asking, &it.claim(&asking).await);
    it.claims.forget(&asking.node, true).await.unwrap();
    let holder = holder(&asking, &it.claim(&asking).await);
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    it.claims.verify_by_the_index(&holder).await.unwrap();
    for (what, wrong) in
        [("an ended claim", ended), ("another id", Holder { node_id: NodeId::random(), ..holder.clone() })]
    {
        let refused = |error: HolderError| {
            assert!(matches!(error, HolderError::Fenced(_) | HolderError::Copied(_)), "{what}: {error}");
        };
        refused(it.claims.verify_by_the_index(&wrong).await.unwrap_err());
        refused(it.claims.announce(&wrong, &set_up(&wrong), None).await.unwrap_err());
        refused(it.claims.drained(&wrong, vec![]).await.unwrap_err());
    }
    let elsewhere = Epoch { incarnation: Incarnation::random(), ..holder.epoch };
    let error = it.claims.verify(&Holder { epoch: elsewhere, ..holder }).await.unwrap_err();
    assert!(error.to_string().contains("the store was replaced"), "not fenced: {error}");
}

#[tokio::test]
async fn only_the_claims_of_the_announced_epochs_are_announced() {
    let it = cluster().await;
    let (holder, _) = it.joining(1).await;
    let older = Epoch { revision: Revision(holder.epoch.revision.0 - 1), ..holder.epoch };
    let claims = vec![AnnouncedClaim { epoch: older, container_prefixes: vec![] }];
    it.claims.announce(&holder, &Announcement { claims, ..set_up(&holder) }, None).await.unwrap();
    let node = record(&it, &holder).await;
    assert_eq!((node.state, node.claims[0].announced), (NodeState::Joining, false));
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    let node = record(&it, &holder).await;
    assert_eq!((node.state, node.claims[0].announced), (NodeState::Ready, true));
}

#[tokio::test]
async fn a_drain_that_is_asked_for_again_and_an_end_that_was_not_asked_for_change_nothing() {
    let it = cluster().await;
    let (holder, _) = it.announced(1).await;
    let before = revision(&it).await;
    it.claims.drained(&holder, vec![]).await.unwrap();
    assert_eq!((record(&it, &holder).await.state, revision(&it).await), (NodeState::Ready, before));
    let second = Duration::from_secs(1);
    let first = it.claims.drain(&holder.node, second).await.unwrap();
    assert_eq!(it.claims.drain(&holder.node, 99 * second).await.unwrap(), first);
    let node = record(&it, &holder).await;
    assert_eq!((node.state, node.drain_timeout), (NodeState::Draining, second));
    it.claims.drained(&holder, vec!["host2".parse().unwrap()]).await.unwrap();
    let node = record(&it, &holder).await;
    assert_eq!((node.state, node.laggards), (NodeState::Drained, vec!["host2".to_owned()]));
}

/// The store is replaced by a copy of itself under another incarnation, just before the commit.
#[tokio::test]
async fn nothing_is_changed_in_another_store_than_that_of_the_index() {
    let it = cluster().await;
    let (holder, _) = it.announced(1).await;
    let (registry, ops) = (it.registry.clone(), vec![Op::put(it.keys.meta(), Meta::new().encode())]);
    let replaced = Meanwhile::once(&it, async move {
        registry.commit(Txn { guards: vec![], ops }).await.unwrap();
    });
    let claims = Claims::new(replaced, it.keys.clone(), it.claims.index.clone(), Duration::ZERO);
    let error = claims.drain(&holder.node, Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("is another one"), "{error}");
    let entry =
        it.registry.list(&KeyRange::key(&it.keys.node(&holder.node))).await.unwrap().entries.remove(0);
    assert_eq!(NodeRecord::decode(&entry.value).unwrap().state, NodeState::Ready);
}
