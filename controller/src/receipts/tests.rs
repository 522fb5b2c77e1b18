use std::time::Duration;

use sextant_authority::{Directory, Lifetime};
use sextant_identity::SignerName;
use sextant_proto::{Epoch, NodeId, NodeName, Revision};

use super::*;
use crate::{
    index::IndexTask,
    keys::{Keys, Member},
    records::{ClaimRecord, MemberDenial, Record},
    registry::{Op, SharedRegistry, Txn, fake::FakeStore},
    store,
};

/// An authority, and what follows a new store.
struct Fixture {
    dir: tempfile::TempDir,
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    node: NodeName,
    node_id: NodeId,
}

impl Fixture {
    async fn new() -> Self {
        let (registry, _) = FakeStore::new().client();
        let keys = Keys::new(&"test".parse().unwrap());
        let meta = store::open(&registry, &keys).await.unwrap();
        let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
        tokio::spawn(task.run());
        let dir = tempfile::tempdir().unwrap();
        Self { dir, registry, keys, index, node: "h1".parse().unwrap(), node_id: NodeId::random() }
    }

    fn authority(&self, name: &str) -> Authority {
        let directory = Directory::new(self.dir.path().join(name));
        let identity = "spiffe://default/controller/c1".parse().unwrap();
        directory.init(&identity, SystemTime::now()).unwrap();
        Authority::open(directory, Lifetime::default()).unwrap()
    }

    fn key(&self, name: &str) -> Signing {
        let signer = SignerName { cluster: "default".parse().unwrap(), controller: "c1".parse().unwrap() };
        let path = self.dir.path().join(name);
        Signing::Key(Arc::new(Signer::of_key(&path, &signer, SystemTime::now()).unwrap()))
    }

    fn receipts(&self, signing: Signing, required: bool) -> Receipts {
        Receipts::new("default".parse().unwrap(), signing, required, self.index.clone())
    }

    fn bearer(&self) -> Bearer<'_> {
        Bearer { node: &self.node, node_id: self.node_id }
    }

    /// A claim of this store, which it does not have.
    fn claim(&self) -> Claim {
        let incarnation = self.index.read(|state| state.meta().incarnation);
        let pool = Pool::new("main".parse().unwrap(), "2001:db8::/48".parse().unwrap(), 64, 64).unwrap();
        Claim {
            prefix: "2001:db8:0:1::/64".parse().unwrap(),
            epoch: Epoch { incarnation, revision: Revision(7) },
            pool,
        }
    }

    /// Changes the store, and waits until the index has seen it.
    async fn put(&self, ops: Vec<Op>) -> Revision {
        let done = self.registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
        let crate::registry::Outcome::Committed(revision) = done else { panic!("{done:?}") };
        assert!(self.index.reaches(revision, Duration::from_secs(10)).await);
        revision
    }
}

fn is_held(shown: &Shown, claim: &Claim) -> bool {
    matches!(shown, Shown::Held { claim: held, .. } if held == claim)
}

fn why(shown: Shown) -> String {
    match shown {
        Shown::Unproven(unproven) => unproven.why,
        held @ Shown::Held { .. } => panic!("{held:?}"),
    }
}

#[tokio::test]
async fn a_claim_counts_with_the_receipt_of_its_grant_and_with_no_other() {
    let it = Fixture::new().await;
    let receipts = it.receipts(Signing::Authority(it.authority("pki")), true);
    let claim = it.claim();
    let receipt = receipts.of_grant(it.bearer(), &claim, None).unwrap();
    assert!(is_held(&receipts.shown(it.bearer(), claim.clone(), Some(&receipt)), &claim));
    assert_eq!(receipts.of_grant(it.bearer(), &claim, Some(&receipt)), None, "it has one");
    // The pool of the receipt counts, whatever the node reports of it.
    let mut claimed = claim.clone();
    claimed.pool.prefix = "2001:db8::/32".parse().unwrap();
    assert!(is_held(&receipts.shown(it.bearer(), claimed, Some(&receipt)), &claim));

    let refused = |bearer, claim: &Claim, receipt| why(receipts.shown(bearer, claim.clone(), receipt));
    assert_eq!(refused(it.bearer(), &claim, None), "there is none");
    let h2 = "h2".parse().unwrap();
    let other = Bearer { node: &h2, ..it.bearer() };
    assert_eq!(refused(other, &claim, Some(&receipt)), "it is of node h1");
    let other = Bearer { node_id: NodeId::random(), ..it.bearer() };
    assert!(refused(other, &claim, Some(&receipt)).starts_with("it is of node id "));
    let mut later = claim.clone();
    later.epoch.revision = Revision(u64::MAX);
    assert!(refused(it.bearer(), &later, Some(&receipt)).starts_with("it is of the claim since "));
    let elsewhere = it.receipts(Signing::Authority(it.authority("other pki")), true);
    let foreign = elsewhere.of_grant(it.bearer(), &claim, None).unwrap();
    assert!(refused(it.bearer(), &claim, Some(&foreign)).contains("UnknownIssuer"));
    assert!(receipts.of_grant(it.bearer(), &claim, Some(&foreign)).is_some(), "one of this authority");
}

/// Also a receipt of its own cluster counts nothing for who has another cluster's name under the same root.
#[tokio::test]
async fn clusters_with_one_root_do_not_take_each_others_receipts() {
    let it = Fixture::new().await;
    let signing = it.key("key");
    let other = Receipts::new("other".parse().unwrap(), signing.clone(), true, it.index.clone());
    let receipt = other.of_grant(it.bearer(), &it.claim(), None).unwrap();
    let receipts = it.receipts(signing, true);
    assert_eq!(why(receipts.shown(it.bearer(), it.claim(), Some(&receipt))), "it is of cluster other");
}

#[tokio::test]
async fn controllers_with_copies_of_a_key_trust_each_other_and_others_do_not() {
    let it = Fixture::new().await;
    let receipt = it.receipts(it.key("a"), true).of_grant(it.bearer(), &it.claim(), None).unwrap();
    std::fs::copy(it.dir.path().join("a"), it.dir.path().join("copy")).unwrap();
    let counts = |signing, required| {
        is_held(&it.receipts(signing, required).shown(it.bearer(), it.claim(), Some(&receipt)), &it.claim())
    };
    assert!(counts(it.key("copy"), true));
    assert!(!counts(it.key("b"), true));
    assert!(!counts(Signing::Off, true));
    assert!(counts(it.key("b"), false) && counts(Signing::Off, false), "no receipt is required");
    assert_eq!(it.receipts(Signing::Off, true).of_grant(it.bearer(), &it.claim(), None), None);
}

#[tokio::test]
async fn what_the_store_has_needs_no_receipt() {
    let it = Fixture::new().await;
    let receipts = it.receipts(Signing::Off, true);
    let (claim, prior) = (it.claim(), it.claim().epoch);
    let record = ClaimRecord {
        node: it.node.clone(),
        node_id: it.node_id,
        pool: claim.pool.name.clone(),
        claimed_unix_ms: 0,
        prior: Some(Epoch { incarnation: sextant_proto::Incarnation::random(), ..prior }),
    };
    let ops = vec![
        Op::put(it.keys.pool(&claim.pool.name), claim.pool.encode()),
        Op::put(it.keys.claim(claim.prefix), record.encode()),
    ];
    let epoch = Epoch { revision: it.put(ops).await, ..prior };
    for epoch in [epoch, record.prior.unwrap()] {
        let claim = Claim { epoch, ..claim.clone() };
        assert!(is_held(&receipts.shown(it.bearer(), claim.clone(), None), &claim), "{epoch}");
        // The store's pool counts.
        let mut claimed = claim.clone();
        claimed.pool.prefix = "2001:db8::/32".parse().unwrap();
        assert!(is_held(&receipts.shown(it.bearer(), claimed, None), &claim));
        let thief = Bearer { node_id: NodeId::random(), ..it.bearer() };
        assert_eq!(why(receipts.shown(thief, claim, None)), "there is none");
    }
    assert_eq!(why(receipts.shown(it.bearer(), it.claim(), None)), "there is none", "another epoch");
}

/// While a root is replaced, receipts of both count, and whoever asks gets one of the next.
#[tokio::test]
async fn a_receipt_of_the_former_root_is_replaced_by_one_of_the_next() {
    let it = Fixture::new().await;
    let (authority, _next) = (it.authority("pki"), it.authority("next"));
    let receipts = it.receipts(Signing::Authority(authority), true);
    let (claim, bearer) = (it.claim(), it.bearer());
    let former = receipts.of_grant(bearer, &claim, None).unwrap();
    let [pki, new] = ["pki", "next"].map(|name| Directory::new(it.dir.path().join(name)));
    let roots = [pki.root(), new.root()].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(pki.root(), roots.concat()).unwrap();
    assert_eq!(receipts.of_grant(bearer, &claim, Some(&former)), None, "the former root signs still");
    for (from, to) in [(new.issuing_key(), pki.issuing_key()), (new.issuing(), pki.issuing())] {
        std::fs::copy(from, to).unwrap();
    }
    let later = receipts.of_grant(bearer, &claim, Some(&former)).unwrap();
    for receipt in [&former, &later] {
        assert!(is_held(&receipts.shown(bearer, claim.clone(), Some(receipt)), &claim));
    }
    std::fs::copy(new.root(), pki.root()).unwrap();
    assert!(is_held(&receipts.shown(bearer, claim.clone(), Some(&later)), &claim));
    assert!(why(receipts.shown(bearer, claim, Some(&former))).contains("UnknownIssuer"));
}

/// Neither for a lost store nor as a receipt to keep: whoever shows one gets another, of a controller that is not revoked.
#[tokio::test]
async fn a_receipt_that_a_revoked_controller_has_signed_counts_no_longer() {
    let it = Fixture::new().await;
    let root = Directory::new(it.dir.path().join("pki"));
    let receipts = it.receipts(Signing::Authority(it.authority("pki")), true);
    let c2 = "spiffe://default/controller/c2".parse().unwrap();
    let (second, _) = root.controller(&c2, SystemTime::now()).unwrap();
    let second = Authority::open(second, Lifetime::default()).unwrap();
    let of_c2 = it.receipts(Signing::Authority(second), true);
    let (claim, bearer) = (it.claim(), it.bearer());
    let receipt = of_c2.of_grant(bearer, &claim, None).unwrap();
    let own = receipts.of_grant(bearer, &claim, None).unwrap();
    assert!(is_held(&receipts.shown(bearer, claim.clone(), Some(&receipt)), &claim));
    assert_eq!(receipts.of_grant(bearer, &claim, Some(&receipt)), None);

    let serial = issuers(&receipt)[0].serial.clone();
    let key = it.keys.member_denial(&Member::Controller("c2".parse().unwrap()));
    for (all, serials) in [(true, Vec::new()), (false, vec![serial])] {
        let denial = MemberDenial { all, serials, denied_unix_ms: 1, by: "admin ann".into() };
        it.put(vec![Op::put(key.clone(), denial.encode())]).await;
        let why = why(receipts.shown(bearer, claim.clone(), Some(&receipt)));
        assert!(why.contains("issued by controller c2, which is revoked (by admin ann)"), "{why}");
        assert!(receipts.of_grant(bearer, &claim, Some(&receipt)).is_some());
        assert!(is_held(&receipts.shown(bearer, claim.clone(), Some(&own)), &claim), "c1 signs as before");
    }
    let denial = MemberDenial { all: false, serials: vec!["1".into()], denied_unix_ms: 1, by: String::new() };
    it.put(vec![Op::put(key.clone(), denial.encode())]).await;
    assert!(is_held(&receipts.shown(bearer, claim.clone(), Some(&receipt)), &claim), "another certificate");
    it.put(vec![Op::Delete(key)]).await;
    assert_eq!(receipts.of_grant(bearer, &claim, Some(&receipt)), None);
}

#[tokio::test]
async fn an_admin_lets_claims_without_receipts_count() {
    let it = Fixture::new().await;
    let receipts = it.receipts(Signing::Off, true);
    let current = store::read(&it.registry, &it.keys).await.unwrap().meta;
    let put = |recovering| {
        let meta = crate::records::Meta { accepts_unsigned: true, recovering, ..current.clone() };
        vec![Op::put(it.keys.meta(), meta.encode())]
    };
    it.put(put(true)).await;
    assert!(is_held(&receipts.shown(it.bearer(), it.claim(), None), &it.claim()));
    it.put(put(false)).await;
    assert_eq!(why(receipts.shown(it.bearer(), it.claim(), None)), "there is none", "the window is closed");
}
