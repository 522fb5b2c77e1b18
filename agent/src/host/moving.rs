//! Undoing on a running host what earlier settings, or an earlier claim, made; and looking at what no event tells of.

use sextant_proto::Claim;

use super::{
    HostSetup, Obstacle,
    apply::{apply, find_things},
    findings,
    undo::{Kept, Undo, undo},
    wanted::Wanted,
};
use crate::kernel::KernelError;

impl HostSetup {
    /// Before anything is set up: takes away the addresses of prefixes that are no longer held.
    pub(super) async fn undo_before_setup(&mut self, claim: Option<&Claim>) -> Result<(), Obstacle> {
        let wanted = Wanted::by(&self.settings, claim).before_setup();
        self.undo_unwanted(&wanted).await.map(drop)
    }

    /// Once all is set up: takes away what the settings no longer want. What refuses does not keep the host from its work;
    /// it is reported, and tried again by the next look.
    pub(super) async fn undo_earlier(&mut self, claim: Option<&Claim>) -> Result<(), Obstacle> {
        let wanted = Wanted::by(&self.settings, claim);
        self.looked.left = match self.undo_unwanted(&wanted).await {
            Ok(kept) => kept.iter().filter(|kept| kept.is_ours()).map(findings::of_kept).collect(),
            Err(Obstacle::Kernel(error)) if !matches!(error, KernelError::Broken(_)) => {
                self.look_due = true;
                vec![findings::not_undone(&error)]
            }
            Err(obstacle) => return Err(obstacle),
        };
        Ok(())
    }

    /// Each thing is struck from the ledger after it is undone: a crash between leaves it to the next start.
    async fn undo_unwanted(&mut self, wanted: &Wanted) -> Result<Vec<Kept>, Obstacle> {
        if wanted.covers(&self.ledger) {
            return Ok(Vec::new());
        }
        let found = find_things(self.kernel.as_ref(), &self.ledger).await?;
        let Undo { steps, kept, left } = undo(&self.ledger, &found, wanted);
        for step in &steps {
            apply(self.kernel.as_ref(), std::slice::from_ref(step)).await?;
            tracing::info!(undone = %step, "host setting of an earlier configuration or claim undone");
        }
        self.note(|ledger| *ledger = left)?;
        Ok(kept)
    }

    /// Looks whether the state directory is still this agent's.
    pub(super) fn look_at_state(&mut self) {
        self.looked.state = self.state.check().err().map(|error| findings::of_state(&error));
    }

    /// Looks whether the host and the claim are as the settings say.
    pub(super) async fn look_at_settings(&mut self, claim: Option<&Claim>) -> Result<(), KernelError> {
        let facts = findings::Facts {
            links: self.kernel.links().await?,
            addresses: self.kernel.addresses().await?,
            rules: self.kernel.rules().await?,
        };
        self.looked.settings = findings::of_settings(&self.settings, claim, &facts);
        Ok(())
    }
}
