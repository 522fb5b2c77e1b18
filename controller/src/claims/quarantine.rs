//! Quarantine: freed prefixes are not granted again for a while.

use std::time::Duration;

use sextant_proto::{NodeId, NodeName, Prefix};

use super::Claims;
use crate::{
    index::{State, View},
    records::{FreedRecord, Record, unix_ms},
    registry::{Guard, Op, RegistryError, Txn},
};

/// The most records deleted in one transaction (etcd's limit is 128 operations).
const BATCH: usize = 64;
/// The most quarantined prefixes; the oldest are released first.
const MOST: usize = 50_000;

impl Claims {
    /// The operation that quarantines `prefix`; none if quarantine is disabled.
    pub(super) fn quarantine(&self, prefix: Prefix, node: &NodeName, node_id: NodeId) -> Option<Op> {
        let freed = FreedRecord { node: node.clone(), node_id, freed_unix_ms: unix_ms() };
        (!self.quarantine.is_zero()).then(|| Op::put(self.keys.freed(prefix), freed.encode()))
    }

    /// Releases some of the prefixes whose quarantine has ended; returns whether there may be more.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn end_quarantines(&self) -> Result<bool, RegistryError> {
        let over = self.index.read(|state| over(state, self.quarantine, MOST));
        if over.is_empty() {
            return Ok(false);
        }
        let keys: Vec<_> =
            over.iter().map(|(prefix, view)| (self.keys.freed(*prefix), view.modified)).collect();
        let guards = keys.iter().map(|(key, modified)| Guard::Unchanged(key.clone(), *modified)).collect();
        let ops = keys.into_iter().map(|(key, _)| Op::Delete(key)).collect();
        self.commit_seen(Txn { guards, ops }).await?;
        Ok(over.len() == BATCH)
    }
}

/// Some of the prefixes whose quarantine has ended, or that exceed `most`: the oldest of them.
fn over(state: &State, quarantine: Duration, most: usize) -> Vec<(Prefix, View<FreedRecord>)> {
    let too_many = state.holdings().freed().len().saturating_sub(most);
    let mut freed: Vec<_> = state.holdings().freed().iter().collect();
    if too_many > 0 {
        freed.sort_by_key(|(_, view)| view.modified);
    }
    let since = |revision| state.elapsed().map_or(Duration::ZERO, |elapsed| elapsed.record.since(revision));
    let is_over =
        |index: usize, view: &View<FreedRecord>| index < too_many || since(view.modified) >= quarantine;
    let over = freed.into_iter().enumerate().filter(|(index, (_, view))| is_over(*index, view));
    over.take(BATCH).map(|(_, (prefix, view))| (*prefix, view.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, request};
    use super::*;

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_are_released_before_their_time() {
        let it = Fixture::new(Some(("2001:db8::/48", 64))).await;
        let mut freed = Vec::new();
        for n in 1..=5 {
            let request = request(n);
            freed.push(it.claim(&request).await.prefix);
            it.claims.forget(&request.node, true).await.unwrap();
        }
        let over = |quarantine: Duration, most| {
            let over = it.claims.index.read(|state| over(state, quarantine, most));
            over.into_iter().map(|(prefix, _)| prefix).collect::<Vec<_>>()
        };
        let hour = Duration::from_secs(3600);
        assert_eq!((over(hour, 5), over(hour, 6)), (vec![], vec![]));
        assert_eq!(over(hour, 3), freed[..2], "whatever their addresses are");
        assert_eq!(over(Duration::ZERO, 5).len(), 5, "their time is over");
        assert!(!it.claims.end_quarantines().await.unwrap(), "there are few");
        assert_eq!(over(Duration::ZERO, 5).len(), 5);
    }
}
