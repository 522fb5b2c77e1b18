use std::time::Duration;

use super::*;
use crate::audit::tests::{put, store, times};

/// Says that revisions before this one are a second old, and the others new.
fn old_before(revision: u64) -> impl Fn(Revision) -> Duration {
    move |at| if at < Revision(revision) { Duration::from_secs(1) } else { Duration::ZERO }
}

#[tokio::test]
async fn old_entries_go_by_age_and_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, keys) = store(&dir);
    for n in 0..250 {
        put(&registry, &keys, 1000 + n, 7).await;
    }
    let keep = Keep { entries: 240, age: Duration::from_millis(400) };
    assert_eq!(sweep(&registry, &keys, keep, |_| Duration::ZERO).await.unwrap(), 10, "by number");
    assert_eq!(times(&registry, &keys).await[0], 1010);
    assert_eq!(
        sweep(&registry, &keys, keep, old_before(201)).await.unwrap(),
        190,
        "by age, in several chunks"
    );
    assert_eq!(times(&registry, &keys).await, (1200..1250).collect::<Vec<_>>());
    assert_eq!(sweep(&registry, &keys, keep, old_before(201)).await.unwrap(), 0);
}

#[tokio::test]
async fn two_sweepers_at_once_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, keys) = store(&dir);
    for n in 0..150 {
        put(&registry, &keys, n, 7).await;
    }
    let keep = Keep { entries: 10, age: Duration::from_secs(1) };
    let (a, b) = tokio::join!(
        sweep(&registry, &keys, keep, |_| Duration::ZERO),
        sweep(&registry, &keys, keep, |_| Duration::ZERO)
    );
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(times(&registry, &keys).await, (140..150).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flood_of_one_caller_leaves_the_entries_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, keys) = store(&dir);
    for n in 0..220 {
        let by = if n < 20 { "admin ann at ::1" } else { "node h1 at ::2" };
        let op =
            crate::audit::Event::new(crate::audit::What::Claimed).op(&keys, &crate::audit::Actor::new(by));
        registry.commit(Txn { guards: Vec::new(), ops: vec![op] }).await.unwrap();
    }
    let keep = Keep { entries: 100, age: Duration::from_secs(1) };
    assert_eq!(sweep(&registry, &keys, keep, |_| Duration::ZERO).await.unwrap(), 120);
    let left = crate::audit::list(&registry, &keys).await.unwrap().1;
    let of = |who: &str| left.iter().filter(|noted| noted.record.by.starts_with(who)).count();
    assert_eq!((of("admin ann"), of("node h1")), (20, 80));
}
