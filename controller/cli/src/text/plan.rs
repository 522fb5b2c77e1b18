//! A node's plan for people.

use sextant_proto::counted;

use super::table;
use crate::answer::{Plan, Planned};

/// The changes with their reasons.
pub(crate) fn plan(plan: &Plan) -> String {
    let Plan { node, revision, .. } = plan;
    let paused = if plan.paused { "; paused: not applied until `sextant resume`" } else { "" };
    if plan.count() == 0 {
        return format!("{node}: nothing to do (revision {revision}){paused}\n");
    }
    let count = counted(plan.count(), "pending change");
    let row = |change: &Planned| {
        [change.action.to_owned(), change.route.clone(), change.why.clone(), change.waits.clone()]
    };
    let changes = table::table(["ACTION", "ROUTE", "REASON", "WAITING FOR"], plan.changes.iter().map(row));
    let more = if plan.more > 0 { format!("and {} more\n", plan.more) } else { String::new() };
    format!("{node}: {count} (revision {revision}){paused}\n{changes}{more}")
}
