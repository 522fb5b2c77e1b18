//! The host's bridge, its address, and the sysctls that make it forward (DESIGN I7).
//!
//! Whatever is changed is first written to the ledger, so that it can be undone: by `sextant-agent cleanup`, and by a start
//! with other settings. [`Wanted`] says what the settings want of it, [`undo`] what goes.

pub mod apply;
mod bridge;
pub mod findings;
mod moving;
pub mod privilege;
mod sysctls;
pub mod undo;
mod wanted;

use std::sync::Arc;

use sextant_proto::Claim;

pub(crate) use sysctls::FORWARDING;
pub use wanted::Wanted;

use crate::{
    kernel::{Address, Kernel, KernelError, Link},
    problems::Finding,
    settings::{HostSettings, Role, Settings},
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
    settings: HostSettings,
    /// Whether to make the bridge.
    create: bool,
    ledger: Ledger,
    /// Set up for this claim; links have not changed since.
    done_for: Option<Claim>,
    /// What no event tells of is to be looked at: at the start, and with each resync.
    look_due: bool,
    looked: Looked,
}

/// What was found wrong at the last look, by what was looked at.
#[derive(Debug, Default)]
struct Looked {
    /// What earlier settings made and that cannot go.
    left: Vec<Finding>,
    state: Option<Finding>,
    settings: Vec<Finding>,
}

impl HostSetup {
    /// The setup of this host, going on from what the ledger says was done.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        state: Arc<StateDir>,
        settings: &Settings,
    ) -> Result<Self, StateError> {
        let ledger = state.ledger()?;
        let (settings, create, looked) = (settings.host(), settings.bridge.create, Looked::default());
        Ok(Self { kernel, state, settings, create, ledger, done_for: None, look_due: true, looked })
    }

    /// Has the next [`ensure`](Self::ensure) look at what no event tells of: the state directory, and rules.
    pub fn look(&mut self) {
        self.look_due = true;
    }

    /// What is wrong besides what [`Setup::Waiting`] says.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.looked.state.iter().chain(&self.looked.settings).chain(&self.looked.left)
    }

    /// Brings the host to where `claim` and the settings want it, in the order of DESIGN I7: bridge, address, forwarding;
    /// then what earlier settings made is undone. `links` is what is there, if that may have changed since the last time.
    /// Without a claim, addresses of an earlier one go. A router has no claim, and needs only forwarding.
    ///
    /// # Errors
    /// If the kernel's answers break off. What can be waited for is [`Setup::Waiting`].
    pub async fn ensure(
        &mut self,
        claim: Option<&Claim>,
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        let look_due = std::mem::take(&mut self.look_due);
        let changed = links.is_some() || self.done_for.as_ref() != claim;
        let mut setup = self.done(claim);
        if changed {
            self.done_for = None;
            match self.try_ensure(claim).await {
                Ok(()) => self.done_for = claim.cloned(),
                Err(Obstacle::Kernel(error @ KernelError::Broken(_))) => return Err(error),
                Err(obstacle) => setup = Setup::Waiting(obstacle.finding()),
            }
        }
        if look_due {
            self.look_at_state();
        }
        if look_due || changed {
            self.look_at_settings(claim).await?;
        }
        Ok(setup)
    }

    async fn try_ensure(&mut self, claim: Option<&Claim>) -> Result<(), Obstacle> {
        self.undo_before_setup(claim).await?;
        if let Some(claim) = claim {
            let bridge = self.ensure_bridge().await?;
            self.ensure_address(&bridge, claim.container_prefix()).await?;
            self.ensure_forwarding(Some(&bridge)).await?;
        } else if self.settings.role == Role::Router {
            self.ensure_forwarding(None).await?;
        }
        self.undo_earlier(claim).await
    }

    fn done(&self, claim: Option<&Claim>) -> Setup {
        match self.settings.role {
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
