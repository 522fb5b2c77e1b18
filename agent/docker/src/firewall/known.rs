//! The rules of the host, as far as they are known.

use super::{notices::Notices, tables, verdict::Rules};

/// All rules, which are read again only after changes.
#[derive(Debug, Default)]
pub struct KnownRules {
    notices: Notices,
    rules: Rules,
}

impl KnownRules {
    /// With these notices of changes.
    pub fn new(notices: Notices) -> Self {
        Self { notices, rules: Rules::default() }
    }

    /// The present ones. A firewall that cannot be read has none.
    pub async fn now(&mut self) -> &Rules {
        if self.notices.is_due() {
            self.notices.looking().await;
            let saved = tables::saved().await;
            if saved.is_ok() {
                self.notices.looked();
            }
            self.rules = Rules::parse(&saved.ok().flatten().unwrap_or_default());
        }
        &self.rules
    }
}
