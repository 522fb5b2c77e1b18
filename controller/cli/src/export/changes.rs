//! What has changed since an earlier export.

use sextant_proto::Prefix;

use super::{Routes, Towards};

/// What leads from some routes to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Routes that are no more, or lead elsewhere now: as they were.
    pub(crate) removed: Vec<(Prefix, Towards)>,
    /// Routes that are new, or lead elsewhere now: as they are.
    pub(crate) added: Vec<(Prefix, Towards)>,
}

impl Changes {
    pub(crate) fn between(former: &Routes, now: &Routes) -> Self {
        let missing = |from: &Routes, of: &Routes| {
            of.iter()
                .filter(|(prefix, towards)| from.get(prefix) != Some(towards))
                .map(|(a, b)| (*a, *b))
                .collect()
        };
        Self { removed: missing(now, former), added: missing(former, now) }
    }

    /// Whether a removed route leads to another host now.
    pub(crate) fn moves(&self, (prefix, towards): &(Prefix, Towards)) -> bool {
        let to_host = |it: &Towards| matches!(it, Towards::Host(_));
        to_host(towards) && self.added.iter().any(|(added, now)| added == prefix && to_host(now))
    }
}
