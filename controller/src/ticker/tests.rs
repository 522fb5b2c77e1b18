use std::sync::Arc;

use sextant_proto::NodeId;

use super::*;
use crate::{
    index::IndexTask,
    records::{FreedRecord, Meta, Removal, RemovalsRecord},
    registry::{Entry, Listing, embedded::EmbeddedStore},
    store,
};

const SECOND: Duration = Duration::from_secs(1);

fn seen(record: Option<Elapsed>, incarnation: u8, every: Duration) -> Seen {
    Seen {
        incarnation: format!("{incarnation:032x}").parse().unwrap(),
        revision: Revision(9),
        record: record.map(|record| (record, Revision(8))),
        every,
    }
}

#[test]
fn time_is_written_often_while_something_is_waited_for() {
    let keys = Keys::new(&"test".parse().unwrap());
    let entry = |key: String, value, revision| Entry {
        key,
        value,
        created: Revision(revision),
        modified: Revision(revision),
        lease: None,
    };
    let removal = Removal { node: "h1".parse().unwrap(), claimed: Revision(3), ended: None, unix_ms: 0 };
    let removals = RemovalsRecord { recent: vec![removal], confirmed: 0 };
    let freed = FreedRecord { node: "h1".parse().unwrap(), node_id: NodeId::random(), freed_unix_ms: 0 };
    let removed = || entry(keys.removals(), removals.encode(), 9);
    let quarantined = || entry(keys.freed("2001:db8::/64".parse().unwrap()), freed.encode(), 9);
    let waits = Waits { recovery: 60 * SECOND, quarantine: 200 * SECOND };
    for (what, recovering, waited_for, since, every) in [
        ("nothing", false, vec![], 1, IDLE),
        ("a removal in the window", false, vec![removed()], 599, SLOWEST),
        ("a removal no more", false, vec![removed()], 600, IDLE),
        ("a quarantine", false, vec![quarantined()], 1, 10 * SECOND),
        ("a recovery window", true, vec![], 1, 3 * SECOND),
        ("all of them: the shortest", true, vec![removed(), quarantined()], 1, 3 * SECOND),
    ] {
        let meta = Meta { recovering, ..Meta::new() };
        let elapsed = Elapsed::new(meta.incarnation, Revision(9));
        let elapsed = elapsed.advanced(since * SECOND, meta.incarnation, Revision(10));
        let mut entries = vec![entry(keys.elapsed(), elapsed.encode(), 10)];
        entries.extend(waited_for);
        let listing = Listing { revision: Revision(10), entries };
        let state = State::new(keys.clone(), meta, &listing).unwrap();
        assert_eq!(period(&state, waits), every, "{what}");
    }
}

#[test]
fn the_index_is_waited_for_only_until_it_has_the_last_write() {
    let of_here = |modified| {
        let of = seen(None, 1, SECOND).incarnation;
        Base { of, modified, since: Instant::now() }
    };
    let record = Elapsed::new(of_here(None).of, Revision(8));
    for (what, base, ahead) in [
        ("nothing was written yet", of_here(None), false),
        ("the write is on its way", of_here(Some(Revision(10))), true),
        ("the index has it", of_here(Some(Revision(8))), false),
        ("it was deleted since", of_here(Some(Revision(9))), false),
    ] {
        assert_eq!(base.is_ahead_of(&seen(Some(record.clone()), 1, SECOND)), ahead, "{what}");
        assert!(!base.is_ahead_of(&seen(None, 2, SECOND)), "{what}: of another incarnation");
    }
}

#[test]
fn time_is_written_when_due_and_never_more_than_two_periods_at_once() {
    let first = seen(None, 1, 5 * SECOND);
    let record = next(&first, Duration::ZERO).expect("a store without a record gets one at once");
    let table = [(1, None), (4, None), (5, Some(5)), (9, Some(9)), (10, Some(10)), (3600, Some(10))];
    for (passed, counted) in table {
        let seen = seen(Some(record.clone()), 1, 5 * SECOND);
        let next = next(&seen, passed * SECOND);
        let total = next.map(|next| next.age_of(seen.incarnation).unwrap());
        assert_eq!(total, counted.map(|seconds| seconds * SECOND), "{passed} s passed");
    }
    let restored = seen(Some(record), 2, 5 * SECOND);
    let next = next(&restored, SECOND).expect("another incarnation is written at once");
    assert_eq!(next.age_of(restored.incarnation), Some(Duration::ZERO));
}

/// A store in its recovery window: time is written every three seconds.
struct Counted {
    _dir: tempfile::TempDir,
    registry: SharedRegistry,
    keys: Keys,
    start: Instant,
}

impl Counted {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        let keys = Keys::new(&"test".parse().unwrap());
        Self { _dir: dir, registry, keys, start: Instant::now() }
    }

    /// A controller, of which the index is at the store's present state. It follows the store if it `runs`.
    async fn controller(&self, runs: bool) -> Ticker {
        let meta = store::open(&self.registry, &self.keys).await.unwrap();
        let (task, index) = IndexTask::start(self.registry.clone(), self.keys.clone(), meta).await.unwrap();
        if runs {
            tokio::spawn(task.run());
        }
        let waits = Waits { recovery: 60 * SECOND, quarantine: 3600 * SECOND };
        Ticker::new(self.registry.clone(), self.keys.clone(), index, waits)
    }

    /// The ticker looks at this second. Its index has all that was written before.
    async fn look(&self, ticker: &mut Ticker, second: u32) {
        let written = self.registry.list(&self.keys.all()).await.unwrap().revision;
        assert!(ticker.index.reaches(written, 10 * SECOND).await);
        ticker.look(self.start + second * SECOND).await.unwrap();
    }

    async fn written(&self) -> Option<Elapsed> {
        let range = crate::registry::KeyRange::key(&self.keys.elapsed());
        let entry = self.registry.list(&range).await.unwrap().entries.pop()?;
        Some(Elapsed::decode(&entry.value).unwrap())
    }

    async fn total(&self) -> Duration {
        let incarnation = store::read(&self.registry, &self.keys).await.unwrap().meta.incarnation;
        self.written().await.unwrap().age_of(incarnation).unwrap()
    }
}

#[tokio::test]
async fn no_time_is_counted_twice_or_lost_by_two_controllers() {
    let it = Counted::new().await;
    let (mut one, mut other) = (it.controller(true).await, it.controller(true).await);
    it.look(&mut one, 0).await;
    it.look(&mut other, 0).await;
    it.look(&mut one, 3).await;
    assert_eq!(it.total().await, 3 * SECOND);
    it.look(&mut one, 6).await;
    assert_eq!(it.total().await, 6 * SECOND, "from its own last write on");
    it.look(&mut other, 6).await;
    assert_eq!(it.total().await, 6 * SECOND, "counted already");
    it.look(&mut other, 9).await;
    it.look(&mut one, 9).await;
    assert_eq!(it.total().await, 9 * SECOND);
}

#[tokio::test]
async fn a_controller_that_does_not_see_its_write_yet_counts_from_it() {
    let it = Counted::new().await;
    let mut running = it.controller(true).await;
    it.look(&mut running, 0).await;
    let mut behind = it.controller(false).await;
    behind.look(it.start).await.unwrap();
    behind.look(it.start + 3 * SECOND).await.unwrap();
    let base = behind.base.and_then(|base| base.modified).unwrap();
    behind.look(it.start + 7 * SECOND).await.unwrap();
    assert_eq!(behind.base.and_then(|base| base.modified), Some(base), "the time since its write is kept");
    assert_eq!(it.total().await, 3 * SECOND);
}

#[tokio::test]
async fn a_record_that_a_controller_does_not_see_yet_is_not_put_back() {
    let it = Counted::new().await;
    let mut behind = it.controller(false).await;
    let mut running = it.controller(true).await;
    it.look(&mut running, 0).await;
    it.look(&mut running, 3).await;
    behind.look(it.start + 4 * SECOND).await.unwrap();
    assert_eq!(it.total().await, 3 * SECOND);
}

#[tokio::test]
async fn no_time_of_one_store_is_written_into_another() {
    let it = Counted::new().await;
    let mut behind = it.controller(false).await;
    let ops = vec![Op::put(it.keys.meta(), Meta::new().encode())];
    it.registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
    behind.look(it.start).await.unwrap();
    assert_eq!(it.written().await, None);
}
