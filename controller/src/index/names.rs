//! The names of each node id. Pure.

use std::collections::{BTreeSet, HashMap};

use sextant_proto::{NodeId, NodeName};

/// The names under which each node id holds claims: one, unless a disk was copied.
#[derive(Debug, Default)]
pub struct Names {
    of: HashMap<NodeId, BTreeSet<NodeName>>,
}

impl Names {
    /// Another name of the node id than `name`.
    pub fn other_than(&self, name: &NodeName, node_id: NodeId) -> Option<&NodeName> {
        self.of.get(&node_id)?.iter().find(|other| *other != name)
    }

    /// Node `name` had the id `before`, and has `now`.
    pub(super) fn put(&mut self, name: &NodeName, before: Option<NodeId>, now: Option<NodeId>) {
        if before == now {
            return;
        }
        if let Some(names) = before.and_then(|id| self.of.get_mut(&id)) {
            names.remove(name);
        }
        before.filter(|id| self.of.get(id).is_some_and(BTreeSet::is_empty)).map(|id| self.of.remove(&id));
        if let Some(id) = now {
            self.of.entry(id).or_default().insert(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_id_has_the_names_of_its_records() {
        let [h1, h2]: [NodeName; 2] = ["h1", "h2"].map(|name| name.parse().unwrap());
        let (a, b) = (NodeId::random(), NodeId::random());
        let mut names = Names::default();
        names.put(&h1, None, Some(a));
        assert_eq!((names.other_than(&h1, a), names.other_than(&h2, a)), (None, Some(&h1)));
        names.put(&h2, None, Some(a));
        assert_eq!(names.other_than(&h1, a), Some(&h2));
        names.put(&h2, Some(a), Some(b));
        assert_eq!((names.other_than(&h1, a), names.other_than(&h1, b)), (None, Some(&h2)));
        names.put(&h1, Some(a), None);
        names.put(&h2, Some(b), None);
        assert!(names.of.is_empty());
    }
}
