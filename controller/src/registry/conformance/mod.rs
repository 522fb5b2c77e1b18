//! The suite that every registry passes (DESIGN §6).
//!
//! A case gets a registry and a key prefix of its own; other writers may use other keys of the same registry
//! meanwhile, so nothing here takes revisions to be dense. A failed case reports the difference.

mod history;
mod leases;
mod txns;
mod watches;

use std::{fmt::Debug, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use sextant_proto::Revision;

use super::{
    Batch, Entry, Event, Guard, KeyRange, LeaseId, Listing, Op, Outcome, SharedRegistry, Txn, Watch,
};

/// The timeout of expected events.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The subject of a case.
pub struct Subject {
    /// The registry.
    pub registry: SharedRegistry,
    /// Prefix of all keys of the case; not empty, ends in an ASCII character, and no key begins with it yet.
    pub prefix: String,
    /// The shortest TTL of a lease that the registry keeps to.
    pub ttl: Duration,
    /// Makes the registry forget the changes up to now. Without it, compaction is not tested.
    pub compact: Option<Compact>,
}

/// Makes a registry forget all changes up to now, as far as watches go.
pub type Compact = Box<dyn Fn(SharedRegistry) -> BoxFuture<'static, ()> + Send + Sync>;

/// One case of the suite. Its error is the difference.
pub type Case = fn(Subject) -> BoxFuture<'static, Result<(), String>>;

macro_rules! cases {
    ($($module:ident::$case:ident,)*) => {
        &[$((stringify!($case), |subject| Box::pin($module::$case(subject)))),*]
    };
}

/// All cases by name.
pub const CASES: &[(&str, Case)] = cases![
    txns::a_put_dates_its_key,
    txns::a_key_put_again_after_a_delete_is_new,
    txns::deleting_a_missing_key_changes_nothing,
    txns::guards_hold_or_refuse,
    txns::a_refused_transaction_does_nothing,
    txns::a_transaction_is_one_revision,
    txns::a_listing_is_in_order_and_in_range,
    txns::a_listing_contains_acknowledged_changes,
    txns::values_are_kept_octet_by_octet,
    txns::several_ranges_are_read_at_one_revision,
    txns::one_of_many_claimers_wins,
    watches::a_watch_delivers_each_change_once_in_order,
    watches::a_watch_starts_at_any_revision_that_is_kept,
    watches::a_watch_delivers_only_its_range_and_never_splits,
    watches::a_watch_waits_for_changes,
    watches::catching_up_and_following_lose_nothing,
    watches::dropped_changes_are_compacted,
    leases::keys_end_with_their_lease,
    leases::a_lease_kept_alive_lives_on,
    leases::a_revoked_lease_ends_at_once,
    leases::an_ended_lease_is_refused,
    leases::a_key_moved_off_a_lease_stays,
    history::concurrent_transactions_have_one_history,
];

/// Runs all cases, each on a subject of its own.
///
/// # Panics
/// If any of them fails, with the difference of each.
pub async fn run_all<F>(mut subject: impl FnMut(&'static str) -> F)
where
    F: Future<Output = Subject>,
{
    let mut failed = Vec::new();
    for (name, case) in CASES {
        if let Err(difference) = case(subject(name).await).await {
            failed.push(format!("{name}: {difference}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), CASES.len(), failed.join("\n"));
}

impl Subject {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix(&self.prefix)
    }

    async fn list(&self) -> Result<Listing, String> {
        self.registry.list(&self.range()).await.map_err(|error| format!("list: {error}"))
    }

    async fn entry(&self, name: &str) -> Result<Option<Entry>, String> {
        let listed = self.registry.list(&KeyRange::key(&self.key(name))).await;
        let entries = listed.map_err(|error| format!("list of {name:?}: {error}"))?.entries;
        Ok(entries.into_iter().next())
    }

    /// The names of all keys, without the prefix.
    async fn names(&self) -> Result<Vec<String>, String> {
        let entries = self.list().await?.entries;
        Ok(entries.iter().map(|entry| entry.key[self.prefix.len()..].to_owned()).collect())
    }

    async fn outcome(&self, guards: Vec<Guard>, ops: Vec<Op>) -> Result<Outcome, String> {
        let txn = Txn { guards, ops };
        let delivered = format!("{txn:?}");
        self.registry.commit(txn).await.map_err(|error| format!("{delivered}: {error}"))
    }

    /// Commits operations that must succeed.
    async fn done(&self, ops: Vec<Op>) -> Result<Revision, String> {
        match self.outcome(vec![], ops).await? {
            Outcome::Committed(revision) => Ok(revision),
            refused @ Outcome::Refused(_) => Err(format!("without guards: {refused:?}")),
        }
    }

    fn put(&self, name: &str, value: &str) -> Op {
        Op::put(self.key(name), value.to_owned())
    }

    fn put_with(&self, name: &str, lease: LeaseId) -> Op {
        Op::Put { key: self.key(name), value: "held".into(), lease: Some(lease) }
    }

    fn delete(&self, name: &str) -> Op {
        Op::Delete(self.key(name))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, String> {
        self.registry.grant(ttl).await.map_err(|error| format!("grant of {ttl:?}: {error}"))
    }
}

/// The next batch of a watch with changes in it, which must come.
async fn next(watch: &mut Watch) -> Result<Batch, String> {
    let mut changes =
        watch.filter(|item| std::future::ready(!matches!(item, Ok(batch) if batch.events.is_empty())));
    match tokio::time::timeout(TIMEOUT, changes.next()).await {
        Ok(Some(Ok(batch))) => Ok(batch),
        Ok(Some(Err(ended))) => Err(format!("the watch ended: {ended}")),
        Ok(None) => Err("the watch ended without an error".to_owned()),
        Err(_) => Err(format!("the watch delivered nothing for {TIMEOUT:?}")),
    }
}

/// What happens to each key of a batch: `+key` or `-key`, without the prefix.
fn changes(batch: &Batch, prefix: &str) -> Vec<String> {
    let name = |key: &str| key.strip_prefix(prefix).unwrap_or(key).to_owned();
    let events = batch.events.iter().map(|event| match event {
        Event::Put(entry) => format!("+{}", name(&entry.key)),
        Event::Deleted { key, .. } => format!("-{}", name(key)),
    });
    let mut changes: Vec<String> = events.collect();
    changes.sort();
    changes
}

fn same<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, wanted {wanted:?}"))
}

fn holds(what: &str, condition: bool) -> Result<(), String> {
    condition.then_some(()).ok_or_else(|| what.to_owned())
}
