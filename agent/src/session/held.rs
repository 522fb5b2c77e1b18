//! The claim that this node holds: in memory, and in the state directory.

use std::sync::Arc;

use sextant_daemon::transition;
use sextant_proto::Claim;

use super::Ended;
use crate::state::{StateDir, StateError};

/// The claim, as last received from a controller.
pub(super) struct Held {
    state: Arc<StateDir>,
    claim: Option<Claim>,
}

impl Held {
    /// The claim in the state directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn stored(state: Arc<StateDir>) -> Result<Self, StateError> {
        let claim = state.claim()?;
        Ok(Self { state, claim })
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// A controller granted a new claim.
    ///
    /// # Errors
    /// If it cannot be stored; then it is not held.
    pub(super) fn grant(&mut self, claim: Claim) -> Result<(), StateError> {
        self.state.keep_claim(Some(&claim))?;
        transition("claim", self.condition(), "held", "granted");
        self.claim = Some(claim);
        Ok(())
    }

    /// The claim is lost.
    pub(super) fn lose(&mut self, why: &Ended) {
        transition("claim", self.condition(), "none", why.kind());
        self.claim = None;
        if let Err(error) = self.state.keep_claim(None) {
            tracing::error!(%error, "cannot remove the lost claim from the state directory");
        }
    }

    /// In the log of transitions.
    fn condition(&self) -> &'static str {
        self.claim.as_ref().map_or("none", |_| "held")
    }
}
