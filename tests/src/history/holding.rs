//! Since when, and until when, each acknowledged claim was surely held. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map::Entry};

use sextant_proto::{NodeId, NodeName, PoolName, Prefix, Revision};

use super::{Answer, Asked, Moment, Operation, Stored};

/// Who holds what since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whose, by name.
    pub node: NodeName,
    /// Whose, by id.
    pub node_id: NodeId,
    /// What.
    pub prefix: Prefix,
    /// From which pool.
    pub pool: PoolName,
    /// Since this revision, which is another for each claim.
    pub epoch: Revision,
}

impl Held {
    /// Whether a node may hold both at the same time.
    fn may_be_beside(&self, other: &Self) -> bool {
        (&self.node, self.node_id) == (&other.node, other.node_id) && self.pool != other.pool
    }
}

/// A claim that was acknowledged, at least once.
#[derive(Debug)]
pub(super) struct Holding<'a> {
    pub(super) held: Held,
    /// The first acknowledgement was asked for.
    first: Moment,
    /// The first acknowledgement was there: it was held by then.
    pub(super) known: Moment,
    /// The last acknowledgement was asked for: it was still held then.
    pub(super) seen: Moment,
    /// What asked for its end and was not over before it was first seen.
    ends: Vec<&'a Operation>,
    /// The store has it in the end.
    pub(super) stands: bool,
}

impl<'a> Holding<'a> {
    /// What may have ended it: what was over before it was last seen has not.
    pub(super) fn possible_ends(&self) -> impl Iterator<Item = &'a Operation> {
        self.ends.iter().copied().filter(|end| end.over() > self.seen)
    }

    /// From when to when it was surely held.
    pub(super) fn surely(&self) -> (Moment, Moment) {
        let until = match self.possible_ends().map(|end| end.from).min() {
            _ if self.stands => Moment(u64::MAX),
            Some(end) => end.max(self.seen),
            // Nobody asked for its end.
            None => Moment(u64::MAX),
        };
        (self.known, until)
    }

    /// The same by the store's revisions: until just before the second one.
    pub(super) fn revisions(&self) -> (Revision, Revision) {
        let mut ends = self.possible_ends();
        let until = match (ends.next(), ends.next()) {
            _ if self.stands => Revision(u64::MAX),
            // Only this one can have ended it, so its report was of this claim.
            (Some(Operation { answer: Answer::Ended(Some(revision)), .. }), None) => *revision,
            (None, _) => Revision(u64::MAX),
            _ => Revision(self.held.epoch.0 + 1),
        };
        (self.held.epoch, until)
    }

    /// The earliest operation that has certainly ended the claim.
    pub(super) fn ended_by(&self) -> Option<&'a Operation> {
        let surely = |end: &&Operation| matches!(end.answer, Answer::Ended(_)) && end.from > self.known;
        self.ends.iter().copied().filter(surely).min_by_key(|end| end.to)
    }
}

/// All acknowledged claims by epoch; and what an epoch was acknowledged as besides, which can only be wrong.
pub(super) fn holdings<'a>(
    history: &'a [Operation],
    stored: &Stored,
) -> (BTreeMap<Revision, Holding<'a>>, Vec<(Held, Held)>) {
    let standing: HashSet<_> = stored.claims.iter().map(|claim| claim.epoch).collect();
    let (mut holdings, mut differing) = (BTreeMap::<Revision, Holding<'_>>::new(), Vec::new());
    for operation in history {
        let Operation { node, node_id, from, to, answer, .. } = operation.clone();
        let Answer::Granted { prefix, pool, epoch } = answer else { continue };
        let held = Held { node, node_id, prefix, pool, epoch };
        match holdings.entry(epoch) {
            Entry::Vacant(vacant) => {
                let (ends, stands) = (Vec::new(), standing.contains(&epoch));
                vacant.insert(Holding { held, first: from, known: to, seen: from, ends, stands });
            }
            Entry::Occupied(other) if other.get().held != held => {
                differing.push((other.get().held.clone(), held));
            }
            Entry::Occupied(mut same) => {
                let same = same.get_mut();
                same.first = same.first.min(from);
                same.known = same.known.min(to);
                same.seen = same.seen.max(from);
            }
        }
    }
    attach_ends(&mut holdings, history);
    (holdings, differing)
}

fn attach_ends<'a>(holdings: &mut BTreeMap<Revision, Holding<'a>>, history: &'a [Operation]) {
    let mut ends = HashMap::<&NodeName, Vec<&Operation>>::new();
    for operation in history.iter().filter(|operation| operation.may_end_a_claim()) {
        ends.entry(&operation.node).or_default().push(operation);
    }
    let released: HashMap<_, _> = holdings.iter().map(|(epoch, it)| (*epoch, it.held.clone())).collect();
    for holding in holdings.values_mut() {
        let of_it = |end: &&Operation| match &end.asked {
            Asked::Release(epoch) if *epoch == holding.held.epoch => true,
            Asked::Release(epoch) => {
                let is_beside = released.get(epoch).is_some_and(|other| other.may_be_beside(&holding.held));
                is_beside && end.over() > holding.first
            }
            Asked::Forget(Some(pool)) if *pool != holding.held.pool => false,
            _ => end.over() > holding.first,
        };
        let all = ends.get(&holding.held.node).map(Vec::as_slice).unwrap_or_default();
        holding.ends = all.iter().copied().filter(of_it).collect();
    }
}
