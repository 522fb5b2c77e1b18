//! Violations of the rule that no claim is ever lost, doubled or taken over. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use sextant_proto::{NodeName, Prefix, Revision};

use super::{
    Answer, Asked, Operation, Stored, StoredClaim,
    holding::{Holding, holdings},
    sweep::{Clashes, clashes},
};

pub use super::holding::Held;

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two overlapping claims were held at the same time.
    #[error("two claims overlap: {0}, and {1}")]
    Overlap(Held, Held),
    /// One node held two claims of a pool at the same time.
    #[error("a node has two claims of a pool: {0}, and {1}")]
    TwoAtOnce(Held, Held),
    /// An acknowledged claim is not in the store, and no request ended it.
    #[error("lost: {0} is not in the store, and no request to end it came after its last acknowledgement")]
    Lost(Held),
    /// An ended claim was acknowledged or in the store after its end.
    #[error("revived: {0} exists again, although its end was acknowledged")]
    Revived(Held),
    /// A claim was answered as ended while it was surely held.
    #[error("denied: {0} was answered as ended while it was held")]
    Denied(Held),
    /// One epoch was acknowledged as two claims.
    #[error("ambiguous: one revision created {0}, and {1}")]
    Ambiguous(Held, Held),
    /// A stored claim that no request asked for.
    #[error("unrequested: no request asked for {0}, which is in the store")]
    Unrequested(Held),
    /// Claims and nodes of the store do not match.
    #[error("node {node} and its claims do not match: node record {by_node:?}, claims {by_claims:?}")]
    Unmatched {
        /// The node.
        node: NodeName,
        /// The prefixes of its record.
        by_node: Vec<Prefix>,
        /// The prefixes of its claims.
        by_claims: Vec<Prefix>,
    },
}

/// The counts of a valid history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Acknowledged claims, each counted once.
    pub claims: usize,
    /// Repeated acknowledgements.
    pub again: usize,
    /// Acknowledged ends.
    pub ends: usize,
    /// Refused claims, including fenced ones.
    pub refused: usize,
    /// Unknown outcomes.
    pub unknown: usize,
    /// Claims in the store.
    pub stored: usize,
    /// Claims in the store that were never acknowledged: unknown outcomes that succeeded.
    pub unacknowledged: usize,
}

/// Checks `history`, with `stored` at its end.
///
/// # Errors
/// All violations, each once.
pub fn check(history: &[Operation], stored: &Stored) -> Result<Summary, Vec<Violation>> {
    let (holdings, ambiguous) = holdings(history, stored);
    let mut found: Vec<_> = ambiguous.into_iter().map(|(a, b)| Violation::Ambiguous(a, b)).collect();
    found.extend(at_once(&holdings, stored));
    found.extend(holdings.values().filter_map(lost_or_revived));
    found.extend(denied(history, &holdings));
    found.extend(differing(&holdings, stored));
    found.extend(unrequested(history, &holdings, stored));
    found.extend(unmatched(stored));
    let mut seen = HashSet::new();
    found.retain(|violation| seen.insert(violation.to_string()));
    if found.is_empty() { Ok(summary(history, &holdings, stored)) } else { Err(found) }
}

fn at_once(holdings: &BTreeMap<Revision, Holding<'_>>, stored: &Stored) -> Vec<Violation> {
    let in_store: Vec<_> = stored.claims.iter().map(Held::from).collect();
    let unacknowledged = in_store.iter().filter(|held| !holdings.contains_key(&held.epoch));
    let by_revision = holdings.values().map(|holding| {
        let (from, to) = holding.revisions();
        (from, to, &holding.held)
    });
    let by_revision =
        by_revision.chain(unacknowledged.map(|held| (held.epoch, Revision(u64::MAX), held))).collect();
    let by_moment = holdings.values().map(|holding| {
        let (from, to) = holding.surely();
        (from, to, &holding.held)
    });
    let by_moment = by_moment.collect();
    let named = |it: Clashes| {
        let overlaps = it.overlapping.into_iter().map(|(a, b)| Violation::Overlap(a, b));
        let twice = it.of_one_node.into_iter().map(|(a, b)| Violation::TwoAtOnce(a, b));
        overlaps.chain(twice).collect::<Vec<_>>()
    };
    [named(clashes(by_revision)), named(clashes(by_moment))].concat()
}

fn lost_or_revived(holding: &Holding<'_>) -> Option<Violation> {
    let held = || holding.held.clone();
    match holding.ended_by() {
        Some(end) if holding.stands || holding.seen > end.to => Some(Violation::Revived(held())),
        None if !holding.stands && holding.possible_ends().next().is_none() => Some(Violation::Lost(held())),
        _ => None,
    }
}

fn denied(history: &[Operation], holdings: &BTreeMap<Revision, Holding<'_>>) -> Vec<Violation> {
    let is_held_throughout = |operation: &Operation| {
        let Asked::Claim { held: Some(epoch), .. } = operation.asked else { return None };
        let holding = holdings.get(&epoch)?;
        let (from, to) = holding.surely();
        let is_its_own = holding.held.node_id == operation.node_id;
        let throughout = is_its_own && from < operation.from && operation.to < to;
        throughout.then(|| Violation::Denied(holding.held.clone()))
    };
    history.iter().filter(|it| it.answer == Answer::Fenced).filter_map(is_held_throughout).collect()
}

/// Stored claims that were acknowledged differently.
fn differing(holdings: &BTreeMap<Revision, Holding<'_>>, stored: &Stored) -> Vec<Violation> {
    let differs = |claim: &StoredClaim| {
        let (acknowledged, actual) = (&holdings.get(&claim.epoch)?.held, Held::from(claim));
        (*acknowledged != actual).then(|| Violation::Ambiguous(acknowledged.clone(), actual))
    };
    stored.claims.iter().filter_map(differs).collect()
}

fn unrequested(
    history: &[Operation],
    holdings: &BTreeMap<Revision, Holding<'_>>,
    stored: &Stored,
) -> Vec<Violation> {
    let asked = history.iter().filter_map(|operation| match &operation.asked {
        Asked::Claim { pool, .. } => Some((&operation.node, operation.node_id, pool)),
        _ => None,
    });
    let asked: HashSet<_> = asked.collect();
    let is_unrequested = |claim: &&StoredClaim| {
        let was_asked_for = asked.contains(&(&claim.node, claim.node_id, &claim.pool));
        !holdings.contains_key(&claim.epoch) && !was_asked_for
    };
    stored.claims.iter().filter(is_unrequested).map(|claim| Violation::Unrequested(claim.into())).collect()
}

fn unmatched(stored: &Stored) -> Vec<Violation> {
    let mut nodes = BTreeMap::<&NodeName, (Vec<_>, Vec<_>)>::new();
    for node in &stored.nodes {
        nodes.entry(&node.node).or_default().0.push((node.prefix, &node.pool, node.node_id));
    }
    for claim in &stored.claims {
        nodes.entry(&claim.node).or_default().1.push((claim.prefix, &claim.pool, claim.node_id));
    }
    for (by_node, by_claims) in nodes.values_mut() {
        by_node.sort();
        by_claims.sort();
    }
    let differ = nodes.into_iter().filter(|(_, (node, claims))| node.is_empty() || node != claims);
    let named = differ.map(|(node, (by_node, by_claims))| Violation::Unmatched {
        node: node.clone(),
        by_node: by_node.into_iter().map(|(prefix, ..)| prefix).collect(),
        by_claims: by_claims.into_iter().map(|(prefix, ..)| prefix).collect(),
    });
    named.collect()
}

fn summary(history: &[Operation], holdings: &BTreeMap<Revision, Holding<'_>>, stored: &Stored) -> Summary {
    let mut counted = HashMap::<_, usize>::new();
    for operation in history {
        *counted.entry(std::mem::discriminant(&operation.answer)).or_default() += 1;
    }
    let count = |answer: Answer| counted.get(&std::mem::discriminant(&answer)).copied().unwrap_or_default();
    let granted = history.iter().filter(|it| matches!(it.answer, Answer::Granted { .. })).count();
    Summary {
        claims: holdings.len(),
        again: granted - holdings.len(),
        ends: count(Answer::Ended(None)),
        refused: count(Answer::Refused(String::new())) + count(Answer::Fenced),
        unknown: count(Answer::Unknown(String::new())),
        stored: stored.claims.len(),
        unacknowledged: stored.claims.iter().filter(|claim| !holdings.contains_key(&claim.epoch)).count(),
    }
}

impl From<&StoredClaim> for Held {
    fn from(claim: &StoredClaim) -> Self {
        let StoredClaim { prefix, pool, node, node_id, epoch } = claim.clone();
        Self { node, node_id, prefix, pool, epoch }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, node_id, prefix, pool, epoch } = self;
        write!(f, "{prefix} from {pool} of node {node} ({node_id}) since revision {epoch}")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claims, again, ends, refused, unknown, stored, unacknowledged } = self;
        write!(
            f,
            "{claims} claims acknowledged ({again} times again), {ends} ends; {refused} refused; {unknown} outcomes \
             unknown; {stored} claims in the store, {unacknowledged} of them never acknowledged"
        )
    }
}

#[cfg(test)]
mod tests;
