//! The host's bridge, its address, and the sysctls for forwarding (DESIGN I7).
//!
//! Each change is first recorded in the ledger, so that it can be undone: by `sextant-agent cleanup`, and by a start with
//! other settings. [`Wanted`] decides which changes the settings need, [`undo`] which ones are undone.

pub mod apply;
mod bridge;
pub mod findings;
pub mod privilege;
mod reconfigure;
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

/// The state of the host's setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// The host forwards for its containers.
    Ready,
    /// The host is not set up, for this reason; tried again.
    Waiting(Finding),
}

/// An error that prevents the setup.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("bridge \"{0}\" does not exist")]
    NoBridge(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl SetupError {
    fn finding(&self) -> Finding {
        let (what, fix) = match self {
            Self::NoBridge(_) => (
                "bridge-missing",
                "start the container engine, create the bridge, or let the agent create it ([bridge] create = true in \
                 agent.toml, or --bridge-create)",
            ),
            Self::State(_) => ("state-directory", "check the disk, and that root may write to --state-dir"),
            Self::Kernel(_) => ("host-setup-refused", "see sextant-agent's log on the host"),
        };
        Finding::unready(what, self.to_string(), fix)
    }
}

/// The host holds no prefix.
pub(crate) fn no_claim() -> Finding {
    Finding::unready(
        "no-claim",
        "no host prefix is claimed yet",
        "see sextant-agent's log on the host: no controller is reachable, or the controller refuses the claim",
    )
}

/// The owner of the bridge and of the sysctls.
pub struct HostSetup {
    kernel: Arc<dyn Kernel>,
    state: Arc<StateDir>,
    settings: HostSettings,
    /// Whether to create the bridge.
    create: bool,
    ledger: Ledger,
    /// The host is set up for these claims, and links have not changed since.
    set_up_for: Option<Vec<Claim>>,
    /// State without kernel events is to be checked: at the start, and with each resync.
    check_due: bool,
    found: FoundProblems,
}

/// The problems that the last check has found.
#[derive(Debug, Default)]
struct FoundProblems {
    /// Changes for earlier settings that cannot be undone.
    left: Vec<Finding>,
    state: Option<Finding>,
    settings: Vec<Finding>,
}

impl HostSetup {
    /// The setup of this host, which continues from the recorded changes.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        state: Arc<StateDir>,
        settings: &Settings,
    ) -> Result<Self, StateError> {
        let ledger = state.ledger()?;
        let (settings, create, found) = (settings.host(), settings.bridge.create, FoundProblems::default());
        Ok(Self { kernel, state, settings, create, ledger, set_up_for: None, check_due: true, found })
    }

    /// Makes the next [`ensure`](Self::ensure) check state without kernel events: the state directory, and rules.
    pub fn request_check(&mut self) {
        self.check_due = true;
    }

    /// Sets the names of the uplinks, which may change where no setting names them.
    pub fn set_uplinks(&mut self, names: &[String]) {
        if self.settings.uplinks != names {
            names.clone_into(&mut self.settings.uplinks);
            self.set_up_for = None;
        }
    }

    /// The problems besides the one of [`Setup::Waiting`].
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.found.state.iter().chain(&self.found.settings).chain(&self.found.left)
    }

    /// Sets the host up for `claims` and the settings, in the order of DESIGN I7: bridge, addresses, forwarding; then undoes
    /// changes for earlier settings. `links` is the present state, if it may have changed since the last call. Addresses of
    /// claims that ended are removed. A router has no claim, and needs only forwarding.
    ///
    /// # Errors
    /// If the exchange with the kernel fails. Other errors are [`Setup::Waiting`].
    pub async fn ensure(
        &mut self,
        claims: &[Claim],
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        let check_due = std::mem::take(&mut self.check_due);
        let changed = links.is_some() || self.set_up_for.as_deref() != Some(claims);
        let mut setup = self.state_of(claims);
        if changed {
            self.set_up_for = None;
            match self.try_ensure(claims).await {
                Ok(()) => self.set_up_for = Some(claims.to_vec()),
                Err(SetupError::Kernel(error @ KernelError::Broken(_))) => return Err(error),
                Err(error) => setup = Setup::Waiting(error.finding()),
            }
        }
        if check_due {
            self.check_state();
        }
        if check_due || changed {
            self.check_settings(claims).await?;
        }
        Ok(setup)
    }

    async fn try_ensure(&mut self, claims: &[Claim]) -> Result<(), SetupError> {
        self.undo_before_setup(claims).await?;
        if !claims.is_empty() {
            let bridge = self.ensure_bridge().await?;
            for claim in claims {
                self.ensure_address(&bridge, claim.container_prefix()).await?;
            }
            self.ensure_forwarding(Some(&bridge)).await?;
        } else if self.settings.role == Role::Router {
            self.ensure_forwarding(None).await?;
        }
        self.undo_earlier(claims).await
    }

    fn state_of(&self, claims: &[Claim]) -> Setup {
        match self.settings.role {
            Role::Host if claims.is_empty() => Setup::Waiting(no_claim()),
            Role::Host | Role::Router => Setup::Ready,
        }
    }

    /// Records a change in the ledger, before it is made on the host.
    fn record(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), StateError> {
        let mut ledger = self.ledger.clone();
        change(&mut ledger);
        if ledger != self.ledger {
            self.state.keep_ledger(&ledger)?;
            self.ledger = ledger;
        }
        Ok(())
    }
}
