//! Keeps the rules of the policy in the firewall, whose changes tell nobody.

use std::time::Duration;

use super::{
    policy::{Passes, Port},
    tables::{self, Kept},
};
use crate::trouble::Trouble;

/// How often the rules are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Keeps the rules of one host.
#[derive(Debug, Default)]
pub struct FirewallKeeper {
    /// The last policy.
    passes: Option<Passes>,
    /// There is something to look after.
    rules: bool,
}

impl FirewallKeeper {
    /// Puts the rules of a policy there. The `published` ports stay as they were if they are not known, because the engine does
    /// not answer.
    pub async fn keep(&mut self, passes: &Passes, published: Option<Vec<Port>>) -> Option<Trouble> {
        let before = || self.passes.as_ref().map(|passes| passes.published.clone()).unwrap_or_default();
        let published = published.unwrap_or_else(before);
        self.passes = Some(Passes { published, ..passes.clone() });
        self.correct().await
    }

    /// Looks at the rules again and again, and corrects them at once. Ends if that fails. Cancel safe.
    pub async fn look(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.rules && self.correct().await.is_some() {
                return;
            }
        }
    }

    async fn correct(&mut self) -> Option<Trouble> {
        match tables::keep(self.passes.as_ref()).await {
            Ok(Kept { changed, rules }) => {
                if changed > 0 {
                    tracing::info!(tables = changed, "firewall rules for containers put in place");
                }
                self.rules = rules;
                None
            }
            Err(error) => Some(Trouble::Firewall { error: error.to_string() }),
        }
    }
}
