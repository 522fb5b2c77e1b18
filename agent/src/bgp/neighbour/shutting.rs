//! A drained host ends its sessions, and begins none until it is back (RFC 4486 §4, RFC 9003).
//!
//! All that it announced was withdrawn before, so the neighbour loses nothing by it, and its operator reads why.

use rustbgpd_fsm::Event;
use rustbgpd_wire::notification::encode_shutdown_communication;
use tokio::time::Instant;

use super::Neighbour;

impl Neighbour {
    /// Tells what is new; then ends the session if the host is drained, or has one begin if it is back.
    pub(super) async fn follow_wanted(&mut self) {
        self.tell_news().await;
        let drained = self.wanted.borrow().drained;
        if drained && !self.shut {
            self.rival = None;
            let reason = encode_shutdown_communication(&format!("node {} is drained", self.node));
            self.feed(Event::ManualStop { reason: Some(reason) }).await;
            self.stay_shut();
        } else if !drained && self.shut {
            (self.shut, self.failures, self.start_at) = (false, 0, Some(Instant::now()));
        }
    }

    /// No session begins, whoever opens a connection.
    pub(super) fn stay_shut(&mut self) {
        (self.shut, self.start_at, self.parked) = (true, None, None);
        self.status.drained();
    }
}
