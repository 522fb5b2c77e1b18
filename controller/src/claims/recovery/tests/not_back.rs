//! Which claims are not registered yet.

use super::*;

#[tokio::test]
async fn a_refused_claim_is_unregistered_until_it_is_registered_or_the_window_closes() {
    for registers in [true, false] {
        let it = Fixture::new().await;
        let refused = RefusedClaims::new(it.index.clone());
        it.claim(&it.back(2, 2, 10)).await;
        let request = it.back(1, 7, 10);
        let (node, prefix) = (request.node.clone(), held(&request));
        let claim = Unregistered { node, prefix, pool: "main".parse().unwrap(), why: "x".into() };
        refused.note(request.node_id, claim.clone());
        refused.note(request.node_id, claim.clone());
        assert_eq!(refused.list(), [claim]);
        if registers {
            let granted = it.claim(&request).await;
            assert!(it.index.reaches(granted.epoch.revision, std::time::Duration::from_secs(5)).await);
        } else {
            it.finish().await;
        }
        assert_eq!(refused.list(), []);
    }
}

#[tokio::test]
async fn the_end_of_the_window_names_the_claims_that_end_with_it() {
    let it = Fixture::new().await;
    it.claim(&it.back(2, 2, 10)).await;
    let lost = it.back(1, 7, 10);
    let (node, prefix) = (lost.node.clone(), held(&lost));
    let ending = [Unregistered { node, prefix, pool: "main".parse().unwrap(), why: "x".into() }];
    store::finish(&it.registry, &it.keys, &it.index, &Actor::controller(), &ending).await.unwrap();
    let (_, all) = audit::list(&it.registry, &it.keys).await.unwrap();
    let detail = &all.iter().find(|noted| noted.record.what == "recovery finished").unwrap().record.detail;
    assert!(detail.contains(&format!("not registered: h1 {prefix}")), "{detail}");
}

/// The backup has a prefix of h3 that h2 holds now; h3 has another one, which only its own agent knows of.
#[tokio::test]
async fn a_node_with_a_superseded_claim_is_unregistered_until_it_is_back() {
    let it = Fixture::new().await;
    for n in 2..=3 {
        it.claim(&it.back(n, n.into(), 10)).await;
    }
    it.finish().await;
    let backup = backup::take(&it.registry, &it.keys, "test").await.unwrap();
    let new = Fixture { lost: backup.incarnation, ..Fixture::new().await };
    let done = backup::restore(&new.registry, &new.keys, &backup, &Actor::controller()).await.unwrap();
    assert!(new.index.reaches(done.revision, std::time::Duration::from_secs(5)).await);
    let missing = async || -> Vec<(String, Prefix)> {
        let all = unregistered::superseded(&new.registry, &new.keys, &new.index).await.unwrap();
        all.into_iter().map(|it| (it.node.to_string(), it.prefix)).collect()
    };
    let in_index = async |claim: &Claim| {
        assert!(new.index.reaches(claim.epoch.revision, std::time::Duration::from_secs(5)).await);
    };
    assert_eq!(missing().await, []);
    let h2 = new.back(2, 3, 1000);
    in_index(&new.claim(&h2).await).await;
    assert_eq!(missing().await, [("h3".to_owned(), held(&h2))], "its own former claim is none");
    in_index(&new.claim(&new.back(3, 9, 1001)).await).await;
    assert_eq!(missing().await, []);
}

/// A snapshot of the store has the session of an agent that has not connected since.
#[tokio::test]
async fn a_node_with_a_session_that_no_controller_has_heard_is_silent() {
    let it = Fixture::new().await;
    let h1 = it.back(1, 7, 10);
    it.claim(&h1).await;
    let session = SessionRecord { controller: "c1".into(), instance: None, serial: String::new() }.encode();
    let txn = Txn { guards: vec![], ops: vec![Op::put(it.keys.session(&h1.node), session)] };
    let revision = it.index.commit(&it.registry, txn).await.unwrap().unwrap();
    assert!(it.index.reaches(revision, std::time::Duration::from_secs(5)).await);
    let silent = |heard: bool| it.index.read(|state| store::silent(state, |_| heard));
    assert_eq!((silent(true), silent(false)), (vec![], vec![h1.node]));
}
