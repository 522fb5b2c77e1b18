//! Undoes changes for earlier settings or an earlier claim on a running host; and checks state without kernel events.

use sextant_proto::Claim;

use super::{
    HostSetup, SetupError,
    apply::{apply, find_without_routes},
    earlier, findings, ground,
    sysctls::of_interface,
    undo::{Kept, Step, Undo, undo},
    wanted::Wanted,
};
use crate::kernel::KernelError;

/// The outcome of an undo.
#[derive(Default)]
struct Undone {
    /// What is in use.
    kept: Vec<Kept>,
    /// The steps that the kernel refuses.
    refused: Vec<(Step, KernelError)>,
}

impl HostSetup {
    /// Before the setup: removes addresses of prefixes that this node no longer holds. A failure is no reason to leave the node's
    /// other prefixes alone (DESIGN I10): [`Self::undo_earlier`] tries it again, and reports it.
    pub(super) async fn undo_before_setup(&mut self, claims: &[Claim]) -> Result<(), SetupError> {
        let wanted = self.wanted(claims).before_setup();
        match self.undo_unwanted(&wanted).await {
            Err(error) if !error.is_broken() => {
                tracing::debug!(%error, "address of an earlier claim is not removed");
                Ok(())
            }
            undone => undone.map(drop),
        }
    }

    /// After the setup: undoes the changes that the settings no longer need. A failure does not prevent the host from
    /// forwarding; it is reported, and tried again with the next check.
    pub(super) async fn undo_earlier(&mut self, claims: &[Claim]) -> Result<(), SetupError> {
        let wanted = self.wanted(claims);
        self.found.left = match self.undo_unwanted(&wanted).await {
            Ok(Undone { kept, refused }) => {
                self.check_due |= !refused.is_empty();
                let kept = kept.iter().filter(|kept| kept.is_ours()).map(earlier::of_kept);
                kept.chain(refused.iter().map(|(step, error)| earlier::not_undone(step, error))).collect()
            }
            Err(error) if !error.is_broken() => {
                self.check_due = true;
                vec![earlier::not_recorded(&error)]
            }
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn wanted(&self, claims: &[Claim]) -> Wanted {
        let mut wanted = Wanted::by(&self.settings, claims);
        wanted.unclaimed.clone_from(&self.unclaimed);
        wanted
    }

    /// Entries are removed from the ledger after the undo: after a crash in between, or a refusal, they are undone again. A step that
    /// is refused stops no other one (DESIGN I10).
    async fn undo_unwanted(&mut self, wanted: &Wanted) -> Result<Undone, SetupError> {
        if wanted.covers(&self.ledger) {
            return Ok(Undone::default());
        }
        let found = find_without_routes(self.kernel.as_ref(), &self.ledger).await?;
        let Undo { steps, kept, left } = undo(&self.ledger, &found, wanted);
        let mut refused = Vec::new();
        for step in steps {
            match apply(self.kernel.as_ref(), std::slice::from_ref(&step)).await {
                Ok(()) => {
                    self.drift.undone(&step);
                    tracing::info!(undone = %step, "obsolete change to the host undone");
                }
                Err(error @ KernelError::Broken(_)) => return Err(error.into()),
                Err(error) => refused.push((step, error)),
            }
        }
        if refused.is_empty() {
            self.record(|ledger| *ledger = left)?;
        }
        Ok(Undone { kept, refused })
    }

    /// Checks that the state directory is still this agent's.
    pub(super) fn check_state(&mut self) {
        self.found.state = self.state.check().err().map(|error| findings::of_state(&error));
    }

    /// Checks the host and the claim against the settings.
    pub(super) async fn check_settings(&mut self, claims: &[Claim]) -> Result<(), KernelError> {
        let facts = findings::Facts::read(self.kernel.as_ref(), &self.settings).await?;
        for uplink in self.settings.uplinks.clone() {
            self.read_sysctl(&of_interface(&uplink, "disable_ipv6"))?;
        }
        self.found.settings = findings::of_settings(&self.settings, claims, &facts);
        self.found.managers = match self.found.drift.is_empty() {
            true => Vec::new(),
            false => ground::managers(self.kernel.as_ref(), &self.settings, &facts).await?,
        };
        Ok(())
    }
}
