//! Keeps the rules of the policy in the firewall.

use std::{future::pending, time::Duration};

use tokio::time::Instant;

use super::{
    notices::Notices,
    policy::{Passes, Port},
    tables::{self, Kept},
};
use crate::{pace::rest_after, trouble::Trouble};

/// The least time between two looks for the sake of others' changes; longer where a look takes long.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps the rules of one host.
#[derive(Debug, Default)]
pub struct FirewallKeeper {
    notices: Notices,
    /// The last policy.
    passes: Option<Passes>,
    /// What prevented the last look.
    trouble: Option<Trouble>,
    /// There is something to look after.
    rules: bool,
    /// When the next look for the sake of others' changes may be.
    rested: Option<Instant>,
}

impl FirewallKeeper {
    /// With these notices of changes.
    pub fn new(notices: Notices) -> Self {
        Self { notices, ..Self::default() }
    }

    /// Puts the rules of a policy there; nothing is read if they are in place and unchanged since the last look. The `published` ports
    /// stay as they were if they are not known, because the engine does not answer.
    pub async fn keep(&mut self, passes: &Passes, published: Option<Vec<Port>>) -> Option<Trouble> {
        let before = || self.passes.as_ref().map(|passes| passes.published.clone()).unwrap_or_default();
        let published = published.unwrap_or_else(before);
        let passes = Some(Passes { published, ..passes.clone() });
        if self.passes == passes && self.trouble.is_none() && !self.notices.is_due() {
            return None;
        }
        self.passes = passes;
        self.correct().await
    }

    /// Corrects the rules at once as others change them. Ends if that fails. Cancel safe.
    pub async fn look(&mut self) {
        if self.passes.is_none() {
            return pending().await;
        }
        loop {
            self.notices.due().await;
            if let Some(rested) = self.rested {
                tokio::time::sleep_until(rested).await;
            }
            if !self.rules && !self.notices.are_sent() {
                // The engine's events are enough.
                return pending().await;
            }
            if self.correct().await.is_some() {
                return;
            }
        }
    }

    async fn correct(&mut self) -> Option<Trouble> {
        let began = Instant::now();
        self.notices.looking().await;
        self.trouble = match tables::keep(self.passes.as_ref()).await {
            Ok(Kept { changed, rules }) => {
                if changed > 0 {
                    tracing::info!(tables = changed, "firewall rules for containers put in place");
                }
                self.rules = rules;
                None
            }
            Err(error) => Some(Trouble::Firewall { error: error.to_string() }),
        };
        self.notices.looked();
        self.rested = Some(Instant::now() + rest_after(began.elapsed(), SETTLE));
        self.trouble.clone()
    }
}
