//! One claim's trouble is no other's (I10).

use super::*;

/// The host with these prefixes of the pool, each a claim of its own.
fn holds(it: &Fixture, revision: u64, claims: &[u8]) {
    it.tell(revision, &[9], false);
    it.input.send_modify(|input| {
        let of = |n: &u8| Epoch { incarnation: it.incarnation, revision: Revision((*n).into()) };
        let claim = |n: &u8| Claim { prefix: prefix(*n), epoch: of(n), pool: pool() };
        input.claims = claims.iter().map(claim).collect();
    });
}

fn announced(report: &Report) -> Vec<u64> {
    let claims = report.announcement.iter().flat_map(|it| &it.claims);
    claims.map(|claim| claim.epoch.revision.0).collect()
}

fn refuse(it: &Fixture, prefixes: &[u8]) {
    it.kernel.refuse_addresses(prefixes.iter().map(|&n| prefix(n)));
}

#[tokio::test(start_paused = true)]
async fn i10_a_claim_that_the_host_cannot_be_set_up_for_keeps_no_other_from_being_announced() {
    for refused in [1, 2] {
        let mut it = Fixture::start();
        refuse(&it, &[refused]);
        holds(&it, 5, &[1, 2]);
        let other = u64::from(3 - refused);
        assert_eq!(announced(&it.applied(5).await), [other], "refused: {refused}");
        let (found, text) = (it.problems.watch(), prefix(refused).to_string());
        let problems = found.borrow().problems();
        assert!(problems.iter().any(|problem| problem.saw.contains(&text)), "{problems:?}");
        assert!(found.borrow().readiness().is_ok(), "{problems:?}");

        refuse(&it, &[]);
        tokio::time::sleep(SOON * 5).await;
        assert_eq!(announced(&it.report.borrow()), [1, 2], "tried again by itself");
        assert!(found.borrow().problems().is_empty(), "{:?}", found.borrow());
    }
}

#[tokio::test(start_paused = true)]
async fn i10_the_address_of_an_ended_claim_that_cannot_be_removed_keeps_no_other_from_being_announced() {
    let mut it = Fixture::start();
    holds(&it, 5, &[1, 2]);
    assert_eq!(announced(&it.applied(5).await), [1, 2]);
    refuse(&it, &[2]);
    holds(&it, 6, &[1]);
    assert_eq!(announced(&it.applied(6).await), [1]);
    let found = it.problems.watch();
    assert_eq!(
        found.borrow().problems().iter().map(|it| it.what.clone()).collect::<Vec<_>>(),
        ["earlier-settings"]
    );

    let fix = found.borrow().problems()[0].fix.clone();
    let prefix = prefix(2);
    assert!(
        fix.contains(&format!("run `ip -6 address del {}/64 dev docker0`", prefix.first_host())),
        "{fix}"
    );

    refuse(&it, &[]);
    it.tell(7, &[9], false);
    it.applied(7).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(found.borrow().problems().is_empty(), "{:?}", found.borrow());
}

#[tokio::test(start_paused = true)]
async fn without_any_claim_that_it_is_set_up_for_the_host_is_not_announced() {
    let mut it = Fixture::start();
    refuse(&it, &[1, 2]);
    holds(&it, 5, &[1, 2]);
    assert!(it.applied(5).await.announcement.is_none());
    assert!(it.problems.watch().borrow().readiness().is_err());
}
