//! Telling the controller that the agent ends because it was told to, so that nobody takes it for dead.

use std::time::Duration;

use tokio::sync::watch;

use super::Condition;

/// How long a controller has to take it. An older one does not know the word, and keeps silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Of who is told to stop.
#[derive(Debug)]
pub struct Farewell {
    asked: watch::Sender<bool>,
    said: watch::Receiver<bool>,
    condition: watch::Receiver<Condition>,
}

/// Of the session, which says it.
#[derive(Debug)]
pub struct Leaving {
    asked: watch::Receiver<bool>,
    said: watch::Sender<bool>,
}

/// Both ends; `condition` says whether there is anybody to tell.
pub fn farewell(condition: watch::Receiver<Condition>) -> (Farewell, Leaving) {
    let (asked_tx, asked) = watch::channel(false);
    let (said_tx, said) = watch::channel(false);
    (Farewell { asked: asked_tx, said, condition }, Leaving { asked, said: said_tx })
}

impl Farewell {
    /// Has it said; returns once that is done, or nobody listens.
    pub async fn say(mut self) {
        if !self.condition.borrow().connected {
            return;
        }
        self.asked.send_replace(true);
        let _gone_or_late = tokio::time::timeout(PATIENCE, self.said.wait_for(|said| *said)).await;
    }
}

impl Leaving {
    /// Waits until it is to be said. Cancel safe.
    pub(super) async fn asked(&mut self) {
        // Without the other end nobody will ever ask.
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// It is said.
    pub(super) fn said(&self) {
        self.said.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(connected: bool) -> watch::Receiver<Condition> {
        watch::channel(Condition { connected, ..Condition::default() }).1
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_where_somebody_listens_and_holds_nobody_up_elsewhere() {
        let started = tokio::time::Instant::now();
        let (farewell, leaving) = super::farewell(condition(false));
        farewell.say().await;
        assert!(!*leaving.asked.borrow() && started.elapsed() < PATIENCE, "nobody is connected");

        let (farewell, mut leaving) = super::farewell(condition(true));
        let session = tokio::spawn(async move {
            leaving.asked().await;
            leaving.said();
            leaving
        });
        farewell.say().await;
        assert!(started.elapsed() < PATIENCE);
        drop(session.await.unwrap());

        let (farewell, _leaving) = super::farewell(condition(true));
        farewell.say().await;
        assert_eq!(started.elapsed(), PATIENCE, "no answer");
    }
}
