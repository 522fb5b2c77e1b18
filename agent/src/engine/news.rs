//! What of a pass is worth a line in the log, when it begins.

use tokio::time::Instant;

use super::Report;
use crate::log_limiter::{Line, LogLimiter};

/// One warning for each new kind of trouble, with the first case and their number.
pub(super) fn warn_of_new(before: &Report, now: &Report, log: &mut LogLimiter, at: Instant) {
    warn_of_conflicts(before, now, log, at);
    warn_of_failures(before, now, log, at);
    if now.held > before.held
        && let Some(withheld) = log.admit(Line::Held, at)
    {
        tracing::warn!(
            held = now.held,
            withheld,
            "too many peers gone at once; their routes are kept until an operator runs `sextant resume`"
        );
    }
    if !before.set_up && now.set_up && log.admit(Line::State, at).is_some() {
        tracing::info!("host is set up");
    }
}

fn warn_of_conflicts(before: &Report, now: &Report, log: &mut LogLimiter, at: Instant) {
    let known: std::collections::BTreeSet<_> = before.conflicts.iter().map(conflict_key).collect();
    let mut new = now.conflicts.iter().filter(|conflict| !known.contains(&conflict_key(conflict)));
    let Some(conflict) = new.next() else {
        return;
    };
    let others = new.count() as u64;
    if let Some(withheld) = log.admit_many(Line::Conflicts, others + 1, at) {
        tracing::warn!(
            destination = %conflict.destination, proto = conflict.protocol, metric = conflict.metric,
            leads = conflict.leads,
            ours_wins = conflict.ours_wins, others, withheld,
            "route of another process takes packets from ours, or would if ours were gone; it is left alone"
        );
    }
}

fn conflict_key(conflict: &sextant_proto::Conflict) -> (sextant_proto::Prefix, u32, &str) {
    (conflict.destination, conflict.metric, &conflict.protocol)
}

fn warn_of_failures(before: &Report, now: &Report, log: &mut LogLimiter, at: Instant) {
    let known: std::collections::BTreeSet<_> =
        before.failed.iter().map(|failed| (failed.destination, &failed.error)).collect();
    let mut new = now.failed.iter().filter(|failed| !known.contains(&(failed.destination, &failed.error)));
    let Some(failed) = new.next() else {
        return;
    };
    let others = new.count() as u64;
    if let Some(withheld) = log.admit_many(Line::Failures, others + 1, at) {
        tracing::warn!(
            destination = %failed.destination, error = failed.error, others, withheld, "route failed"
        );
    }
}
