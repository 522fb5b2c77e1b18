//! Looks at what may keep the packets of containers from their way: after each change of routes, networks and containers, and from
//! time to time: another process may have changed addresses or the firewall.

use std::{convert::Infallible, sync::Arc, time::Duration};

use sextant_daemon::OncePerMinute;
use sextant_docker::firewall::{known::KnownRules, policy::FromCluster};
use tokio::{sync::watch, time::Instant};

use super::{
    Known,
    checks::{self, Place},
};
use crate::{
    cluster::Input,
    docker::pools,
    kernel::{Kernel, KernelError, Route},
    problems::{Component, Finding, Problems},
    settings::DockerSettings,
    uplinks::LocalUplink,
};

/// The time between two looks without a change.
const LOOK: Duration = Duration::from_secs(10);
/// When a fault that was found is looked at again before it is reported: the agent itself corrects what the engine does to its
/// rules, and takes two seconds for it. Changes are collected for so long.
const AGAIN: Duration = Duration::from_secs(3);

/// Looks at the firewall, addresses and routes of the host.
pub struct ContainerLooks {
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) settings: DockerSettings,
    pub(crate) bridge: String,
    pub(crate) input: watch::Receiver<Input>,
    pub(crate) uplinks: watch::Receiver<Vec<LocalUplink>>,
    pub(crate) known: Known,
    /// The routes of `proto boot`, as the kernel's events keep them.
    pub(crate) routes: watch::Receiver<Arc<Vec<Route>>>,
    /// Of the firewall.
    pub(crate) rules: KnownRules,
    pub(crate) problems: Problems,
}

impl ContainerLooks {
    /// Runs forever.
    ///
    /// # Errors
    /// None: errors are logged, and tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let (mut before, mut lines) = (Vec::new(), OncePerMinute::default());
        loop {
            let mut wait = LOOK;
            match self.look().await {
                Ok(found) => {
                    let lasting: Vec<_> = found.iter().filter(|it| before.contains(*it)).cloned().collect();
                    wait = if lasting.len() < found.len() { AGAIN } else { LOOK };
                    self.problems.report(Component::ContainerPaths, lasting);
                    before = found;
                }
                Err(error) => {
                    if let Some(suppressed) = lines.admit(&error.to_string(), Instant::now()) {
                        tracing::warn!(%error, suppressed, "cannot check the containers' paths; trying again");
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
            if wait > AGAIN {
                self.changed(wait - AGAIN).await;
            }
        }
    }

    /// Waits until routes or the engine have changed, but no longer than this.
    async fn changed(&mut self, wait: Duration) {
        tokio::select! {
            Ok(()) = self.routes.changed() => {}
            Ok(()) = self.known.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn look(&mut self) -> Result<Vec<Finding>, KernelError> {
        let uplinks = self.uplinks.borrow().iter().map(|it| it.uplink.interface.clone()).collect();
        let live = self.known.borrow_and_update().as_deref().cloned().unwrap_or_default();
        let routes = self.routes.borrow_and_update().to_vec();
        let input = self.input.borrow().clone();
        let place = place(&self.settings, &self.bridge, uplinks, &input, live);
        let faults =
            checks::faults(&checks::read(self.kernel.as_ref(), place, Some(routes), &mut self.rules).await?);
        Ok(faults.into_iter().map(|fault| fault.finding).collect())
    }
}

/// What is looked at.
pub(crate) fn place(
    settings: &DockerSettings,
    bridge: &str,
    uplinks: Vec<String>,
    input: &Input,
    live: sextant_docker::live::Live,
) -> Place {
    let pools = pools(input);
    let only_published = settings.mode.keeps_rules() && settings.from_cluster == FromCluster::Published;
    Place { claims: input.claims.clone(), pools, bridge: bridge.to_owned(), uplinks, only_published, live }
}
