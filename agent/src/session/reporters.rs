//! The components whose state the session acknowledges.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::{BgpNeighbour, Epoch, convert::MOST_INFRASTRUCTURE};
use tokio::sync::watch;

use super::protocol::Reports;
use crate::{engine::Report, problems::Found};

/// How long the engine's first pass may take before a claim is asked for without it.
const LOOKED_WITHIN: Duration = Duration::from_secs(2);

/// The reports of the other components.
pub(super) struct Reporters {
    pub(super) engine: watch::Receiver<Report>,
    pub(super) bgp: watch::Receiver<Vec<BgpNeighbour>>,
    pub(super) problems: watch::Receiver<Found>,
    /// The host answers neighbour solicitations for its containers.
    pub(super) ndp_proxy: bool,
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
            ndp_proxy: self.ndp_proxy,
        }
    }

    /// Waits until the engine has looked at the host, but not for long.
    pub(super) async fn looked(&mut self) {
        let looked = self.engine.wait_for(|report| report.infrastructure.is_some());
        let _late_or_gone = tokio::time::timeout(LOOKED_WITHIN, looked).await;
    }

    /// What the host's network stands on.
    pub(super) fn infrastructure(&self) -> Vec<Ipv6Addr> {
        let report = self.engine.borrow();
        report.infrastructure.iter().flatten().take(MOST_INFRASTRUCTURE).copied().collect()
    }

    /// Waits until nothing of the claim of this epoch is left on the host.
    pub(super) async fn no_longer_holds(&mut self, epoch: Epoch) {
        let _engine_gone = self.engine.wait_for(|report| !report.holding.contains(&epoch)).await;
    }
}
