//! Keeps the brake in the state directory: a restart of the agent is no way around it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    routes::Brake,
    state::{StateDir, Uptime},
};

/// The brake's file, and what is in it.
#[derive(Debug, Default)]
pub(super) struct BrakeFile {
    state: Option<Arc<StateDir>>,
    kept: Brake,
}

impl BrakeFile {
    /// The file in `state`, and the brake as it was kept there. One that cannot be read is a new one: it holds what an
    /// earlier one may have let go.
    pub(super) fn open(state: Arc<StateDir>, now: Instant) -> (Self, Brake) {
        let kept = state.brake().map_err(|error| error.to_string());
        let brake = kept.and_then(|kept| Brake::restore(&kept.unwrap_or_default(), now, &Uptime::now()));
        let brake = brake.unwrap_or_else(|error| {
            tracing::warn!(error, "record of peers that are gone cannot be read; starting a new one");
            Brake::default()
        });
        (Self { state: Some(state), kept: brake.clone() }, brake)
    }

    /// Keeps `brake`, if it has changed. A state directory that cannot be written holds up no change of routes.
    pub(super) fn keep(&mut self, brake: &Brake, now: Instant) {
        let Some(state) = self.state.as_ref().filter(|_| self.kept != *brake) else {
            return;
        };
        match state.keep_brake(&brake.keep(now, Uptime::now())) {
            Ok(()) => self.kept = brake.clone(),
            Err(error) => tracing::debug!(%error, "record of peers that are gone cannot be kept"),
        }
    }
}
