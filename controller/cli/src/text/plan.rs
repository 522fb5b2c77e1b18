//! A node's plan for people.

use super::{table, words};
use crate::answer::{Plan, Planned};

/// What would change, and why.
pub(crate) fn plan(plan: &Plan) -> String {
    let Plan { node, revision, .. } = plan;
    let paused = if plan.paused { "; paused: it makes none until `sextant resume`" } else { "" };
    if plan.count() == 0 {
        return format!("{node}: nothing to do (revision {revision}){paused}\n");
    }
    let count = words::count(usize::try_from(plan.count()).unwrap_or(usize::MAX), "change");
    let row = |change: &Planned| {
        [change.action.to_owned(), change.route.clone(), change.why.clone(), change.waits.clone()]
    };
    let changes = table::table(["DO", "ROUTE", "WHY", "WAITS FOR"], plan.changes.iter().map(row));
    let more = if plan.more > 0 { format!("and {} more\n", plan.more) } else { String::new() };
    format!("{node} has {count} to make (revision {revision}){paused}\n{changes}{more}")
}
