//! New entries as they come.

use std::{collections::VecDeque, time::Duration};

use futures::StreamExt;
use sextant_proto::Revision;

use super::{Noted, list, noted};
use crate::{
    keys::Keys,
    registry::{Batch, Event, RegistryError, SharedRegistry, Watch},
};

/// The pause before a new listing after a failure.
const RELIST_DELAY: Duration = Duration::from_millis(500);

/// The entries after some revision, those to come among them.
///
/// If the watch ends, as by compaction, it lists again and continues: no kept entry is skipped or delivered twice.
pub struct Follow {
    registry: SharedRegistry,
    keys: Keys,
    /// The last revision that was delivered, or is in `pending`.
    last: Revision,
    pending: VecDeque<Noted>,
    watch: Option<Watch>,
}

impl Follow {
    /// The entries after `after`.
    pub fn new(registry: SharedRegistry, keys: Keys, after: Revision) -> Self {
        Self { registry, keys, last: after, pending: VecDeque::new(), watch: None }
    }

    /// Waits for the next entry. Cancel safe.
    pub async fn next(&mut self) -> Noted {
        loop {
            if let Some(noted) = self.pending.pop_front() {
                return noted;
            }
            if let Some(watch) = &mut self.watch {
                match watch.next().await {
                    Some(Ok(batch)) => self.take(&batch),
                    _ => self.watch = None,
                }
            } else if let Err(error) = self.relist().await {
                tracing::debug!(%error, "audit entries cannot be listed; retrying");
                tokio::time::sleep(RELIST_DELAY).await;
            }
        }
    }

    async fn relist(&mut self) -> Result<(), RegistryError> {
        let (revision, all) = list(&self.registry, &self.keys).await?;
        let last = self.last;
        self.pending.extend(all.into_iter().filter(|noted| noted.revision > last));
        self.last = last.max(revision);
        self.watch = Some(self.registry.watch(self.keys.audit(), revision));
        Ok(())
    }

    fn take(&mut self, batch: &Batch) {
        let puts = batch.events.iter().filter_map(|event| match event {
            Event::Put(entry) => noted(entry),
            Event::Deleted { .. } => None,
        });
        let last = self.last;
        self.pending.extend(puts.filter(|noted| noted.revision > last));
        self.last = last.max(batch.revision);
    }
}
