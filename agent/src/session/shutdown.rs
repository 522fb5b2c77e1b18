//! The shutdown notice to the controller: an agent that was stopped is not treated as dead.

use std::time::Duration;

use tokio::sync::watch;

use super::Condition;

/// Timeout of the controller's reaction. An older controller does not support the message, and does not react.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Requests the notice; for the component that stops the agent.
#[derive(Debug)]
pub struct ShutdownNotice {
    requested: watch::Sender<bool>,
    sent: watch::Receiver<bool>,
    condition: watch::Receiver<Condition>,
}

/// Receives the request; for the session, which sends the notice.
#[derive(Debug)]
pub struct ShutdownRequest {
    requested: watch::Receiver<bool>,
    sent: watch::Sender<bool>,
}

/// Both ends; `condition` is whether a controller is connected.
pub fn shutdown_notice(condition: watch::Receiver<Condition>) -> (ShutdownNotice, ShutdownRequest) {
    let (requested_tx, requested) = watch::channel(false);
    let (sent_tx, sent) = watch::channel(false);
    (
        ShutdownNotice { requested: requested_tx, sent, condition },
        ShutdownRequest { requested, sent: sent_tx },
    )
}

impl ShutdownNotice {
    /// Requests the notice; returns once it is sent, or if no controller is connected.
    pub async fn send(mut self) {
        if !self.condition.borrow().connected {
            return;
        }
        self.requested.send_replace(true);
        let _gone_or_late = tokio::time::timeout(TIMEOUT, self.sent.wait_for(|sent| *sent)).await;
    }
}

impl ShutdownRequest {
    /// Waits for the request. Cancel safe.
    pub(super) async fn requested(&mut self) {
        // Without the other end there will be no request.
        if self.requested.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The notice was sent.
    pub(super) fn sent(&self) {
        self.sent.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(connected: bool) -> watch::Receiver<Condition> {
        watch::channel(Condition { connected, ..Condition::default() }).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_is_sent_if_connected_and_never_delays_the_stop_for_long() {
        let started = tokio::time::Instant::now();
        let (shutdown_notice, request) = super::shutdown_notice(condition(false));
        shutdown_notice.send().await;
        assert!(!*request.requested.borrow() && started.elapsed() < TIMEOUT, "not connected");

        let (shutdown_notice, mut request) = super::shutdown_notice(condition(true));
        let session = tokio::spawn(async move {
            request.requested().await;
            request.sent();
            request
        });
        shutdown_notice.send().await;
        assert!(started.elapsed() < TIMEOUT);
        drop(session.await.unwrap());

        let (shutdown_notice, _request) = super::shutdown_notice(condition(true));
        shutdown_notice.send().await;
        assert_eq!(started.elapsed(), TIMEOUT, "no answer");
    }
}
