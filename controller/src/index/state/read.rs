//! Reads the index's content.

use std::collections::BTreeMap;

use sextant_proto::{Control, Mark, NodeId, NodeName, Peer, Pool, PoolName, Prefix, Revision};

use super::{State, View};
use crate::{
    elapsed::Elapsed,
    index::Holdings,
    keys::Member,
    lineage::History,
    records::{
        ClaimRecord, ControllerRecord, DenialRecord, DoubtRecord, MemberDenial, Meta, NodeIdentity,
        NodeRecord, RemovalsRecord, Seen, SessionRecord, VerdictRecord, seen,
    },
    registry::Guard,
};

impl State {
    /// The last revision with changes for agents.
    pub fn published(&self) -> Revision {
        self.published
    }

    /// The store's own record.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The marks of the store's history.
    pub fn lineage(&self) -> &History {
        &self.lineage
    }

    /// Nodes with a doubt, and their doubts.
    pub fn doubts(&self) -> impl Iterator<Item = (&NodeName, &DoubtRecord)> {
        let here = self.meta.incarnation;
        self.doubts.iter().map(|(node, view)| (node, &view.record)).filter(move |(_, doubt)| doubt.of == here)
    }

    /// The last mark of the store's history, as it is sent to agents.
    pub fn mark(&self) -> Option<Mark> {
        let (id, revision) = self.lineage.latest()?;
        Some(Mark { incarnation: self.meta.incarnation, revision, id })
    }

    /// Guards that hold while the store is the one of this state: neither wiped, nor replaced, nor reverted to before the last
    /// mark.
    pub fn same_store(&self) -> Vec<Guard> {
        let mark = self.lineage.latest();
        let mark = mark.map(|(id, revision)| Guard::Unchanged(self.keys.mark(id), revision));
        self.same_record().into_iter().chain(mark).collect()
    }

    /// A guard that holds while the store's own record is unchanged.
    pub fn same_record(&self) -> Vec<Guard> {
        vec![Guard::Holds(self.keys.meta(), self.meta_value.clone())]
    }

    /// How long the store has been served, once that is counted.
    pub fn elapsed(&self) -> Option<&View<Elapsed>> {
        self.elapsed.as_ref()
    }

    /// The control settings of all agents.
    pub fn control(&self) -> Control {
        self.control
    }

    /// Announced nodes whose claims ended recently.
    pub fn removals(&self) -> Option<&View<RemovalsRecord>> {
        self.removals.as_ref()
    }

    /// All pools.
    pub fn pools(&self) -> &BTreeMap<PoolName, View<Pool>> {
        &self.pools
    }

    /// All claims.
    pub fn claims(&self) -> &BTreeMap<Prefix, View<ClaimRecord>> {
        self.holdings.claims()
    }

    /// The occupied parts of the pools.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// All nodes.
    pub fn nodes(&self) -> &BTreeMap<NodeName, View<NodeRecord>> {
        &self.nodes
    }

    /// The name under which the node id of `name` holds claims, if it is another one, and `name` is not the node id's own too.
    pub fn other_name(&self, name: &NodeName, node_id: NodeId) -> Option<&NodeName> {
        let is_own = self.nodes.get(name).is_some_and(|node| node.record.node_id == node_id);
        self.names.other_than(name, node_id).filter(|_| !is_own)
    }

    /// The names under which a node id holds claims.
    pub fn names_of(&self, node_id: NodeId) -> impl Iterator<Item = &NodeName> {
        self.names.of(node_id)
    }

    /// The revoked nodes.
    pub fn denials(&self) -> &BTreeMap<NodeName, View<DenialRecord>> {
        &self.denials
    }

    /// The revoked people and controllers.
    pub fn member_denials(&self) -> &BTreeMap<Member, View<MemberDenial>> {
        &self.member_denials
    }

    /// The keys of the hosts that joined last, by node.
    pub fn identities(&self) -> &BTreeMap<NodeName, View<NodeIdentity>> {
        &self.identities
    }

    /// All sessions.
    pub fn sessions(&self) -> &BTreeMap<NodeName, View<SessionRecord>> {
        &self.sessions
    }

    /// All controllers.
    pub fn controllers(&self) -> &BTreeMap<String, View<ControllerRecord>> {
        &self.controllers
    }

    /// The verdicts on nodes without an agent, by node and controller.
    pub fn verdicts(&self) -> &BTreeMap<(NodeName, String), View<VerdictRecord>> {
        &self.verdicts
    }

    /// The combined verdict of all controllers' agents on `node`.
    pub fn verdict(&self, node: &NodeName) -> Option<Seen> {
        seen(&self.verdicts_on(node).collect::<Vec<_>>())
    }

    /// Whether any agent sees the host of `node` forwarding.
    pub fn is_seen_forwarding(&self, node: &NodeName) -> bool {
        self.verdicts_on(node).any(|record| record.forwarding)
    }

    fn verdicts_on(&self, node: &NodeName) -> impl Iterator<Item = VerdictRecord> {
        let of_node = self.verdicts.range((node.clone(), String::new())..);
        of_node.take_while(move |((of, _), _)| of == node).map(|(_, verdict)| verdict.record)
    }

    /// The agents' view of all nodes.
    pub fn peers(&self) -> &BTreeMap<NodeName, Peer> {
        &self.peers
    }
}
