//! The names of each node id. Pure.

use std::collections::{
    HashMap,
    hash_map::Entry::{Occupied, Vacant},
};

use sextant_proto::{NodeId, NodeName};

use super::Few;

/// The names under which each node id holds claims: one, unless a disk was copied.
#[derive(Debug, Default)]
pub struct Names {
    of: HashMap<NodeId, Few<NodeName>>,
}

impl Names {
    /// All names of the node id.
    pub fn of(&self, node_id: NodeId) -> impl Iterator<Item = &NodeName> {
        self.of.get(&node_id).into_iter().flat_map(Few::iter)
    }

    /// Another name of the node id than `name`.
    pub fn other_than(&self, name: &NodeName, node_id: NodeId) -> Option<&NodeName> {
        self.of.get(&node_id)?.iter().find(|other| *other != name)
    }

    /// Node `name` had the id `before`, and has `now`.
    pub(super) fn put(&mut self, name: &NodeName, before: Option<NodeId>, now: Option<NodeId>) {
        if before == now {
            return;
        }
        if let Some(Occupied(mut names)) = before.map(|id| self.of.entry(id))
            && names.get_mut().remove(name)
        {
            names.remove();
        }
        match now.map(|id| self.of.entry(id)) {
            Some(Occupied(mut names)) => names.get_mut().insert(name.clone()),
            Some(Vacant(none)) => drop(none.insert(Few::One(name.clone()))),
            None => {}
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
