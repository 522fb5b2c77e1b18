//! Transactions that were decided on the index.

use std::time::Duration;

use sextant_proto::Revision;

use super::Index;
use crate::registry::{Outcome, RegistryError, SharedRegistry, Txn};

/// The time until the index shows a transaction that was committed.
const CATCH_UP: Duration = Duration::from_secs(2);

impl Index {
    /// Commits a transaction with a guard that the store is the one of this index, and waits until the index shows it. `None`
    /// if a guard failed or the outcome is unknown: read again, and decide again.
    ///
    /// # Errors
    /// If the store refuses it or does not answer.
    pub async fn commit(
        &self,
        registry: &SharedRegistry,
        mut txn: Txn,
    ) -> Result<Option<Revision>, RegistryError> {
        self.read(|state| txn.guards.extend(state.same_store()));
        match registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => {
                self.reaches(revision, CATCH_UP).await;
                Ok(Some(revision))
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
