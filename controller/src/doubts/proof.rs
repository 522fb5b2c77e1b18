//! Which doubts prove that the store was reverted. Pure.
//!
//! A doubt is not verified: a client can send one in the name of any node. So two doubts count as two only if they are from two
//! nodes and, where they show claims, of two claims: a store grants each claim to one node, and two nodes that show the same claim
//! have copies of one state directory. While a node of the store is connected and confirms the store's history, only doubts
//! of nodes count that the store had before their doubt: a connected node has seen the claims of all others.

use sextant_proto::{NodeName, Revision};

use crate::{index::State, records::DoubtRecord};

/// A node's doubt.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    pub(super) node: NodeName,
    pub(super) record: DoubtRecord,
    /// The revision at which it was put.
    pub(super) since: Revision,
}

/// Whether these doubts prove that the store of `state` was reverted.
pub(super) fn is_proof(doubts: &[Doubt], state: &State) -> bool {
    let known: Vec<_> = doubts.iter().filter(|doubt| is_known(doubt, state)).collect();
    has_two(&known) || (!is_confirmed(doubts, state) && has_two(&doubts.iter().collect::<Vec<_>>()))
}

/// Whether the doubt is of a node that the store had before. One that was granted a claim meanwhile is not.
fn is_known(doubt: &Doubt, state: &State) -> bool {
    let node = state.nodes().get(&doubt.node).filter(|node| node.created < doubt.since);
    node.is_some_and(|node| doubt.record.node_id.is_none_or(|id| id == node.record.node_id))
}

/// Whether a node that the store has is connected, and has no doubt.
fn is_confirmed(doubts: &[Doubt], state: &State) -> bool {
    let doubts_too = |name: &NodeName| doubts.iter().any(|doubt| doubt.node == *name);
    state.sessions().keys().any(|name| state.nodes().contains_key(name) && !doubts_too(name))
}

fn has_two(doubts: &[&Doubt]) -> bool {
    doubts.iter().enumerate().any(|(at, one)| doubts[at + 1..].iter().any(|two| are_independent(one, two)))
}

/// Earlier versions put neither the node id nor the claim; such a doubt is independent of all others.
fn are_independent(Doubt { record: one, .. }: &Doubt, Doubt { record: two, .. }: &Doubt) -> bool {
    let same_node = one.node_id.is_some() && one.node_id == two.node_id;
    let same_claim = one.claim.is_some() && one.claim == two.claim;
    !same_node && !same_claim
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, NodeId};

    use super::*;

    fn doubt(name: &str, node_id: Option<u8>, claim: Option<u64>) -> Doubt {
        let incarnation = Incarnation::try_from(&[1; 16][..]).unwrap();
        let record = DoubtRecord {
            of: incarnation,
            knows: "x".into(),
            node_id: node_id.map(|id| NodeId::try_from(&[id; 16][..]).unwrap()),
            claim: claim.map(|revision| Epoch { incarnation, revision: Revision(revision) }),
        };
        Doubt { node: name.parse().unwrap(), record, since: Revision(9) }
    }

    #[test]
    fn two_doubts_are_of_two_nodes_and_of_two_claims() {
        let one = doubt("h1", Some(1), Some(7));
        let table = [
            (doubt("h2", Some(2), Some(8)), true, "another claim"),
            (doubt("h2", Some(2), Some(7)), false, "copies of one disk"),
            (doubt("h2", Some(1), Some(8)), false, "one node with two names"),
            (doubt("h2", Some(2), None), true, "a change that it saw"),
            (doubt("h2", None, None), true, "an earlier controller's"),
        ];
        for (two, expected, what) in table {
            assert_eq!(has_two(&[&one, &two]), expected, "{what}");
            assert_eq!(has_two(&[&two, &one]), expected, "{what}");
        }
        assert!(!has_two(&[&one]));
    }
}
