//! Reports to operators about nodes with claims in several pools: events, and refusals.

use super::*;
use crate::{
    audit,
    records::{Observers, SessionRecord, VerdictRecord},
};

impl Two {
    async fn put(&self, key: String, value: bytes::Bytes) {
        let txn = Txn { guards: vec![], ops: vec![Op::put(key, value)] };
        self.it.registry.commit(txn).await.unwrap();
    }

    /// Why its claims of `scope` may not be ended without force.
    async fn refusal(&self, scope: Scope<'_>) -> String {
        let name = [self.request.node.clone()];
        self.it.claims.forget_all(&name, scope, false, None).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn an_event_of_a_node_names_all_its_prefixes_and_one_of_a_claim_just_that() {
    let two = Two::ready().await;
    two.it.claims.drain(&two.request.node, Duration::from_secs(1)).await.unwrap();
    two.it.claims.drained(&two.holder(), vec!["host9".parse().unwrap()]).await.unwrap();
    let renamed = ClaimRequest { node: "host5".parse().unwrap(), ..holding(&two.request, &two.main) };
    two.it.claim(&renamed).await;
    two.it.claims.undrain(&renamed.node).await.unwrap();
    let (_, events) = audit::list(&two.it.registry, &two.it.keys).await.unwrap();
    let [main, ula] = [two.main.prefix, two.ula.prefix];
    let also = format!("also {ula} in pool ula");
    let late = format!("not withdrawn in time: host9; {also}");
    let expected = [
        ("claimed", main, "main", String::new()),
        ("claimed", ula, "ula", String::new()),
        ("ready", main, "main", String::new()),
        ("ready", ula, "ula", String::new()),
        ("draining", main, "main", also.clone()),
        ("drained", main, "main", late),
        ("renamed", main, "main", format!("{also}; formerly host1")),
        ("undrained", main, "main", also),
    ];
    let mut of_nodes: Vec<_> = events.into_iter().filter(|it| it.record.node.is_some()).collect();
    of_nodes.sort_by_key(|it| (it.revision, it.record.prefix));
    let of_nodes = of_nodes.into_iter().map(|it| it.record);
    let found: Vec<_> =
        of_nodes.map(|it| (it.what, it.prefix.unwrap(), it.pool.unwrap().to_string(), it.detail)).collect();
    let expected =
        expected.map(|(what, prefix, pool, detail)| (what.to_owned(), prefix, pool.to_owned(), detail));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_refusal_says_what_the_end_of_one_claim_or_of_all_would_cost() {
    let two = Two::ready().await;
    let session = SessionRecord { controller: "c1".into(), instance: None, serial: String::new() };
    two.put(two.it.keys.session(&two.request.node), session.encode()).await;
    let all = two.refusal(Scope::Node).await;
    let ula = "ula".parse().unwrap();
    let one = two.refusal(Scope::Pool(&ula)).await;
    for (text, lost) in [
        (&all, "its containers lose every connection, and the host claims again"),
        (
            &one,
            "lose the connections of addresses in it; the host's other prefixes stay, and the host claims again",
        ),
    ] {
        assert!(text.contains(lost) && text.contains("shows its agent as stopped or down"), "{text}");
    }
    assert!(!one.contains(&two.main.prefix.to_string()), "{one}");
}

#[tokio::test]
async fn a_refusal_distinguishes_a_stopped_agent_from_a_lost_one() {
    let two = Two::ready().await;
    let verdict = VerdictRecord::of(Observers { forwarding: 1, dead: 0 }, 1);
    two.put(two.it.keys.verdict(&two.request.node, "c1"), verdict.encode()).await;
    let lost = two.refusal(Scope::Node).await;
    assert!(lost.contains("its agent is down, but its host answers its peers"), "{lost}");
    let stopped = NodeRecord { stopped_unix_ms: 1, ..two.record().await };
    two.put(two.it.keys.node(&two.request.node), stopped.encode()).await;
    let stopped = two.refusal(Scope::Node).await;
    assert!(stopped.contains("its agent is stopped, but its host answers its peers"), "{stopped}");
}
