//! Claims that a node shows and that nothing proves, and receipts of different incarnations.

use super::{tests::*, *};
use crate::store;

const POOL: Option<(&str, u32)> = Some(("2001:db8:1::/62", 64));

fn unproven(request: &ClaimRequest, claim: &Claim) -> ClaimRequest {
    let why = "there is none".to_owned();
    ClaimRequest { unproven: Some(Unproven { claim: claim.clone(), why }), ..request.clone() }
}

fn proven(request: &ClaimRequest, claim: &Claim, ancestors: &[Incarnation]) -> ClaimRequest {
    ClaimRequest { held: Some(claim.clone()), ancestors: ancestors.to_vec(), ..request.clone() }
}

/// A claim that a node makes up, of another store.
fn forged(pool: &str, prefix: &str) -> Claim {
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(u64::MAX) };
    Claim { prefix: prefix.parse().unwrap(), epoch, pool: self::pool("forged", pool, 64) }
}

impl Fixture {
    async fn meta(&self) -> crate::records::Meta {
        store::read(&self.registry, &self.keys).await.unwrap().meta
    }

    async fn finish(&self) {
        let by = Actor::controller();
        store::finish(&self.registry, &self.keys, &self.claims.index, &by, &[]).await.unwrap();
    }

    async fn refusal(&self, request: &ClaimRequest) -> String {
        match self.claims.claim(request).await {
            Err(error @ ClaimError::Unproven { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn seen(&self, claim: &Claim) {
        assert!(self.claims.index.reaches(claim.epoch.revision, CATCH_UP).await);
    }
}

/// In the recovery window of a fresh store: no pool, no window for the others, and no prefix of another node.
#[tokio::test]
async fn an_unproven_claim_of_another_store_changes_nothing() {
    let it = Fixture::new(POOL).await;
    let (owner, thief) = (request(1), request(2));
    let owned = it.claim(&owner).await;
    it.seen(&owned).await;
    let before = it.registry.list(&it.keys.all()).await.unwrap();
    for (pool, prefix) in [
        ("2606:4700::/32", "2606:4700:1::/64"),
        ("2001:db8::/32", "2001:db8:9::/64"),
        ("2001:db8:1::/62", "2001:db8:1:3::/64"),
        ("2001:db8:1::/62", "2001:db8:1::/63"),
        ("2001:db8:1::/62", &owned.prefix.to_string()),
    ] {
        let why = it.refusal(&unproven(&thief, &forged(pool, prefix))).await;
        assert!(why.contains("there is none") && why.contains("--accept-unsigned"), "{why}");
    }
    let after = it.registry.list(&it.keys.all()).await.unwrap();
    assert_eq!(before.revision, after.revision, "nothing was written");
    assert_eq!(it.meta().await.replaces, None);
    it.claim(&request(3)).await;
    it.claim(&thief).await;
}

/// After the window: a claim of an unknown store stays refused, and is no doubt of this one; one of a former store has ended.
#[tokio::test]
async fn outside_the_window_an_unproven_claim_gets_no_prefix() {
    let it = Fixture::new(POOL).await;
    it.finish().await;
    let thief = request(1);
    let of_here =
        |revision| Epoch { incarnation: it.claims.index.read(|state| state.meta().incarnation), revision };
    let free = forged("2001:db8:1::/62", "2001:db8:1::/63");
    let ahead = Claim { epoch: of_here(Revision(u64::MAX)), ..free.clone() };
    for shown in [&free, &ahead] {
        let why = it.refusal(&unproven(&thief, shown)).await;
        assert!(why.contains("is closed"), "{why}");
    }
    assert!(it.registry.list(&it.keys.doubts()).await.unwrap().entries.is_empty());
}

/// What the store has needs no proof, and what ended in it is fenced.
#[tokio::test]
async fn i3_an_unproven_claim_of_this_store_is_confirmed_or_fenced() {
    let it = Fixture::new(POOL).await;
    it.finish().await;
    let node = request(1);
    let claim = it.claim(&node).await;
    it.seen(&claim).await;
    assert_eq!(it.claim(&unproven(&node, &claim)).await, claim);
    it.claims.forget(&node.node, true).await.unwrap();
    let answer = it.claims.claim(&unproven(&node, &claim)).await.unwrap();
    assert!(matches!(answer, Granted::Fenced(_)), "{answer:?}");
    let other = request(2);
    it.claim(&other).await;
    let copy = ClaimRequest { node: other.node, ..unproven(&node, &claim) };
    assert!(matches!(it.claims.claim(&copy).await, Err(ClaimError::NameTaken { .. })));
}

#[tokio::test]
async fn an_admin_lets_unproven_claims_count_until_the_window_closes() {
    let it = Fixture::new(POOL).await;
    it.claims.accept_unsigned().await.unwrap();
    let once = it.claims.accept_unsigned().await.unwrap();
    assert!(it.meta().await.accepts_unsigned);
    assert_eq!(it.claims.accept_unsigned().await.unwrap(), once, "it writes nothing");
    it.finish().await;
    assert!(!it.meta().await.accepts_unsigned);
    assert!(matches!(it.claims.accept_unsigned().await, Err(AcceptError::Closed)));
}

/// The store was lost twice. The receipt of the first one proves an earlier claim than that of the second, whichever node comes first.
#[tokio::test]
async fn of_two_incarnations_the_claim_of_the_later_one_counts() {
    let prefix = "2001:db8:1:1::/64".parse().unwrap();
    let of = |incarnation, revision| Claim {
        prefix,
        epoch: Epoch { incarnation, revision: Revision(revision) },
        pool: pool("main", "2001:db8:1::/62", 64),
    };
    let (first, second) = (Incarnation::random(), Incarnation::random());
    let (replayed, present) = (of(first, u64::MAX), of(second, 7));
    for replay_is_first in [true, false] {
        let it = Fixture::new(POOL).await;
        let earlier = proven(&request(1), &replayed, &[]);
        let later = proven(&request(2), &present, &[first]);
        if replay_is_first {
            let granted = it.claim(&earlier).await;
            it.seen(&granted).await;
        }
        let granted = it.claim(&later).await;
        assert_eq!(granted.prefix, prefix);
        it.seen(&granted).await;
        let answer = it.claims.claim(&earlier).await.unwrap();
        assert!(matches!(answer, Granted::Fenced(_)), "{answer:?}");
    }
}
