//! The components whose state the session acknowledges.

use sextant_proto::{BgpNeighbour, Epoch};
use tokio::sync::watch;

use super::protocol::Reports;
use crate::{engine::Report, problems::Found};

/// The reports of the other components.
pub(super) struct Reporters {
    pub(super) engine: watch::Receiver<Report>,
    pub(super) bgp: watch::Receiver<Vec<BgpNeighbour>>,
    pub(super) problems: watch::Receiver<Found>,
}

impl Reporters {
    /// Waits for a new report. Cancel safe.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            changed = self.engine.changed() => if changed.is_err() {
                // The engine is gone, and the agent ends.
                std::future::pending().await
            },
            Ok(()) = self.bgp.changed() => {}
            Ok(()) = self.problems.changed() => {}
        }
    }

    /// The present reports.
    pub(super) fn read(&mut self) -> Reports {
        Reports {
            engine: self.engine.borrow_and_update().clone(),
            bgp: self.bgp.borrow_and_update().clone(),
            problems: self.problems.borrow_and_update().problems(),
        }
    }

    /// Waits until nothing of the claim of this epoch is left on the host.
    pub(super) async fn no_longer_holds(&mut self, epoch: Epoch) {
        let _engine_gone = self.engine.wait_for(|report| !report.holding.contains(&epoch)).await;
    }
}
