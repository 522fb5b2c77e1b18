//! What follows for the session from what BFD says of the way (RFC 5882 §4).

use std::time::Duration;

use rustbgpd_fsm::Event;
use tokio::time::Instant;

use super::Neighbour;
use crate::{bfd::Health, bgp::peer::bfd::Way};

impl Neighbour {
    pub(super) async fn way(&mut self, health: Health) {
        self.status.bfd(health.state);
        let Some(watched) = &mut self.watched else { return };
        let until = Instant::now() + Duration::from_secs(self.settings.hold_time.into());
        match watched.judge(health, until) {
            Way::Failed => {
                self.status.way_failed();
                self.rival = None;
                self.start_at = self.start_at.map(|_| until);
                self.feed(Event::BfdDown).await;
            }
            Way::Back => self.start_at = self.start_at.map(|_| Instant::now()),
            Way::AsBefore => {}
        }
    }

    /// Sessions are held back: the way would only fail again.
    pub(super) fn is_held(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.held_until(Instant::now()).is_some())
    }
}
