//! What an unreachable would cover of that which other tables lead on. Pure.

use super::{Actual, Desired, Entry};
use crate::kernel::{RouteKey, RouteTarget};

/// What of that which other tables lead on an unreachable would cover, in a table that the kernel may look into first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Covers {
    /// Nothing.
    Nothing,
    /// What its own table leads on too or is to lead on, or what is to be led on nowhere.
    WhatIsSettled,
    /// What the other table goes on leading on, and its own is not to: mostly because no snapshot has come yet.
    WhatIsNot,
}

/// What the unreachable `cover` would cover, where what is not `desired` goes if it `may_go`.
pub(super) fn covers(
    cover: &RouteKey,
    desired: &Desired,
    actual: &Actual,
    may_go: impl Fn(&RouteKey) -> bool,
) -> Covers {
    let of = |(key, _): &Entry| {
        let here = RouteKey { table: cover.table, ..*key };
        let leads = |entry: Option<&Entry>| entry.is_some_and(|(_, target)| leads_on(target));
        let led_here = leads(actual.ours.deciding(&here)) || leads(desired.routes.deciding(&here));
        let settled = led_here || desired.routes.contains_key(key) || may_go(key);
        if settled { Covers::WhatIsSettled } else { Covers::WhatIsNot }
    };
    let others = actual.ours.tables().filter(|table| *table != cover.table);
    let led = others.flat_map(|table| actual.ours.inside(&RouteKey { table, ..*cover }));
    led.filter(|(_, target)| leads_on(target)).map(of).max().unwrap_or(Covers::Nothing)
}

/// Whether it sends packets on.
pub(super) fn leads_on(target: &RouteTarget) -> bool {
    matches!(target, RouteTarget::Via(_))
}
