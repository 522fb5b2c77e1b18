//! Store calls for many nodes: several at once, and the lease is renewed meanwhile. Otherwise a slow store could end the
//! lease, and with it the sessions of all connected agents, before the last node's turn.

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::{KEEP_ALIVES_PER_TTL, Sessions, TICK};
use crate::registry::{LeaseId, RegistryError};

/// The number of nodes in progress at once.
const AT_ONCE: usize = 32;

impl Sessions {
    /// The results of `one` for each of `nodes`, in the order of completion. A node that takes long delays no other.
    pub(super) fn each<Node, Done: Future>(
        &self,
        nodes: impl IntoIterator<Item = Node>,
        one: impl Fn(Node) -> Done,
    ) -> impl Stream<Item = Done::Output> {
        let results = stream::iter(nodes).map(one).buffer_unordered(AT_ONCE);
        // Each may take as long as a store that does not answer.
        results.inspect(|_| self.shared.heartbeat.beat()).take_until(self.keep_renewing())
    }

    /// Renews the lease whenever that is due; never ends. Cancel safe.
    async fn keep_renewing(&self) {
        loop {
            let renewed = *self.renewed();
            tokio::time::sleep_until(renewed + self.shared.down_after / KEEP_ALIVES_PER_TTL).await;
            let Some(lease) = self.lease() else { return std::future::pending().await };
            if let Err(error) = self.renew(lease).await {
                tracing::debug!(%error, "controller lease cannot be renewed; retrying");
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Renews the lease once.
    pub(super) async fn renew(&self, lease: LeaseId) -> Result<(), RegistryError> {
        let asked = Instant::now();
        self.shared.registry.keep_alive(lease).await?;
        *self.renewed() = asked;
        Ok(())
    }
}
