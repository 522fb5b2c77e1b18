//! The host's bridge, its address, and the sysctls that make it forward (DESIGN I7).
//!
//! Whatever is changed is first written to the ledger, so that it can be undone.

mod bridge;
pub mod privilege;
mod sysctls;

use std::sync::Arc;

use sextant_proto::Claim;

pub(crate) use sysctls::FORWARDING;

use crate::{
    kernel::{Address, Kernel, KernelError, Link},
    problems::Finding,
    settings::{BridgeSettings, Role},
    state::{Ledger, StateDir, StateError},
};

/// How far the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// It forwards for its containers.
    Ready,
    /// It does not, for this reason; tried again.
    Waiting(Finding),
}

/// What keeps the host from being set up.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("bridge \"{0}\" does not exist")]
    NoBridge(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Obstacle {
    fn finding(&self) -> Finding {
        let (what, fix) = match self {
            Self::NoBridge(_) => (
                "bridge-missing",
                "start the container engine, make it by hand, or let the agent make it ([bridge] create = true in \
                 agent.toml, or --bridge-create)",
            ),
            Self::State(_) => ("state-directory", "check the disk, and that root may write to --state-dir"),
            Self::Kernel(_) => ("host-setup-refused", "look at sextant-agent's log on the host"),
        };
        Finding::unready(what, self.to_string(), fix)
    }
}

/// The host holds no prefix.
pub(crate) fn no_claim() -> Finding {
    Finding::unready(
        "no-claim",
        "no host prefix is claimed yet",
        "sextant-agent's log on the host tells why: no controller is reached, or it refuses",
    )
}

/// The owner of the bridge and of the sysctls.
pub struct HostSetup {
    kernel: Arc<dyn Kernel>,
    state: Arc<StateDir>,
    bridge: BridgeSettings,
    uplinks: Vec<String>,
    role: Role,
    ledger: Ledger,
    /// Set up for this claim; links have not changed since.
    done_for: Option<Claim>,
}

impl HostSetup {
    /// The setup of this host, going on from what the ledger says was done.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        state: Arc<StateDir>,
        bridge: BridgeSettings,
        uplinks: Vec<String>,
        role: Role,
    ) -> Result<Self, StateError> {
        let ledger = state.ledger()?;
        Ok(Self { kernel, state, bridge, uplinks, role, ledger, done_for: None })
    }

    /// Brings the host to where `claim` wants it, in the order of DESIGN I7: bridge, address, forwarding. `links` is what
    /// is there, if that may have changed since the last time. Without a claim, addresses of an earlier one go. A router has
    /// no claim, and needs only forwarding.
    ///
    /// # Errors
    /// If the kernel's answers break off. What can be waited for is [`Setup::Waiting`].
    pub async fn ensure(
        &mut self,
        claim: Option<&Claim>,
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        if links.is_none() && self.done_for.as_ref() == claim {
            return Ok(self.done(claim));
        }
        self.done_for = None;
        match self.try_ensure(claim).await {
            Ok(()) => {
                self.done_for = claim.cloned();
                Ok(self.done(claim))
            }
            Err(Obstacle::Kernel(error @ KernelError::Broken(_))) => Err(error),
            Err(obstacle) => Ok(Setup::Waiting(obstacle.finding())),
        }
    }

    async fn try_ensure(&mut self, claim: Option<&Claim>) -> Result<(), Obstacle> {
        self.remove_old_addresses(claim).await?;
        if let Some(claim) = claim {
            let bridge = self.ensure_bridge().await?;
            self.ensure_address(&bridge, claim.container_prefix()).await?;
            self.ensure_forwarding(Some(&bridge)).await?;
        } else if self.role == Role::Router {
            self.ensure_forwarding(None).await?;
        }
        Ok(())
    }

    fn done(&self, claim: Option<&Claim>) -> Setup {
        match self.role {
            Role::Host if claim.is_none() => Setup::Waiting(no_claim()),
            Role::Host | Role::Router => Setup::Ready,
        }
    }

    /// Writes the ledger with `change` done to it, before that is done to the host.
    fn note(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), StateError> {
        let mut ledger = self.ledger.clone();
        change(&mut ledger);
        if ledger != self.ledger {
            self.state.keep_ledger(&ledger)?;
            self.ledger = ledger;
        }
        Ok(())
    }
}
