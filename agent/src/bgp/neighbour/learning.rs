//! What the neighbour announces, where that is wanted.

use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::{Event, SessionState};
use rustbgpd_wire::{NotificationCode, NotificationMessage, notification::cease_subcode};
use tokio::time::Instant;

use super::Neighbour;
use crate::bgp::wire::{decode::Update, routes::learn};

/// How long a neighbour that announces too much is left alone.
const PENANCE: Duration = Duration::from_secs(60);

impl Neighbour {
    pub(super) async fn learn(&mut self, update: &Update) {
        if self.fsm.state() != SessionState::Established {
            return;
        }
        let (Some(learner), Some(voice)) = (&self.learner, self.voice()) else { return };
        let learnt =
            learn(update, &voice, self.router_id, self.settings.address, self.settings.interface.as_ref());
        learner.withdraw(&learnt.withdrawn);
        let mut taken = Ok(());
        if let Some((mut prefixes, path)) = learnt.announced {
            prefixes.retain(|prefix| self.settings.accept.takes(*prefix));
            taken = learner.announce(&prefixes, path);
        }
        if learnt.end_of_rib {
            learner.end_of_rib();
        }
        self.status.imported(learner.named());
        if taken.is_err() {
            self.refuse().await;
        }
    }

    /// RFC 4486 §4. What was taken in until now stays, as of any neighbour that is gone.
    async fn refuse(&mut self) {
        let max = self.settings.accept.max;
        let subcode = cease_subcode::MAX_PREFIXES;
        let cease = NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new());
        self.feed(Event::UpdateValidationError(cease)).await;
        self.status.error(format!(
            "it announces more than import-max = {max} prefixes; raise that in agent.toml, or have it announce less"
        ));
        self.start_at = Some(Instant::now() + PENANCE);
    }
}
