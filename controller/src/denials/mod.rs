//! Revoked nodes, people and controllers: their streams and calls are refused on every controller.
//!
//! A denial is a record in the store. That of a node names it, its node ids and the serial numbers of its certificates: neither another
//! name nor another certificate helps the host that is meant. That of a person or a controller ([`members`]) names it, or some of its
//! certificates. Whoever has the issuing key of a controller can make certificates for any name: what a revoked controller has issued
//! counts no longer, but for the key with which a node has joined, which the controller never had.

mod members;
mod mirror;

pub use members::check_issuers;
pub use mirror::{Mirror, MirrorError};

use sextant_identity::Holder;
use sextant_proto::{NodeId, NodeName, Revision};
use tokio::sync::watch;

use crate::{
    audit::{Actor, Event, What},
    index::{Index, State},
    keys::{Keys, Member},
    records::{DenialRecord, NodeRecord, Record, SessionRecord, unix_ms},
    registry::{Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// How often a change is tried against others.
const ATTEMPTS: u32 = 8;
/// The most revoked certificates of one name.
const MOST_SERIALS: usize = 1000;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The node is revoked.
    #[error(
        "node {node} is revoked (by {by}); an admin permits it again with `sextant node revoke {node} --undo`"
    )]
    Node {
        /// The node.
        node: NodeName,
        /// The actor.
        by: String,
    },
    /// The node id, or the certificate, is that of a revoked node.
    #[error(
        "this is the {what} of node {node}, which is revoked (by {by}); an admin permits it again with `sextant node revoke {node} \
         --undo`"
    )]
    Other {
        /// What is of the revoked node.
        what: &'static str,
        /// The revoked node.
        node: NodeName,
        /// The actor.
        by: String,
    },
    /// The person or controller is revoked.
    #[error("{member} is revoked (by {by}); an admin permits it again with `sextant revoke {member} --undo`")]
    Member {
        /// Who.
        member: Member,
        /// The actor.
        by: String,
    },
    /// This certificate of a person or controller is revoked.
    #[error(
        "this certificate of {member} is revoked (by {by}): serial number {serial}; use another one, or an admin permits it again with \
         `sextant revoke {member} --serial {serial} --undo`"
    )]
    Certificate {
        /// Whose.
        member: Member,
        /// Its serial number.
        serial: String,
        /// The actor.
        by: String,
    },
    /// A revoked controller has issued the certificate.
    #[error(
        "the certificate was issued by controller {controller}, which is revoked (by {by}); get another one from a controller that is not"
    )]
    Issuer {
        /// The controller.
        controller: NodeName,
        /// The actor.
        by: String,
    },
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DenialError {
    /// The node is not revoked.
    #[error("node {0} is not revoked; see `sextant revoke list`")]
    NotDenied(NodeName),
    /// The person or controller, or its certificate, is not revoked.
    #[error("{0} is not revoked so; see `sextant revoke list`")]
    MemberNotDenied(Member),
    /// Too many certificates of one name.
    #[error("{0} has {MOST_SERIALS} revoked certificates; revoke all of the name: sextant revoke {0}")]
    TooMany(Member),
    /// Others changed the record each time.
    #[error("{ATTEMPTS} attempts to revoke {0} collided with concurrent changes; try again")]
    MemberContended(Member),
    /// Others changed the node each time.
    #[error("{ATTEMPTS} attempts to revoke node {0} collided with concurrent changes; try again")]
    Contended(NodeName),
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Whether the node of this name, node id and certificate is revoked.
///
/// # Errors
/// If it is.
pub fn check(
    state: &State,
    name: Option<&NodeName>,
    node_id: Option<NodeId>,
    serial: Option<&str>,
) -> Result<(), Denied> {
    if let Some((node, denial)) = name.and_then(|name| state.denials().get_key_value(name)) {
        return Err(Denied::Node { node: node.clone(), by: denial.record.by.clone() });
    }
    for (node, denial) in state.denials() {
        let has_id = node_id.is_some_and(|id| denial.record.node_ids.contains(&id));
        let has_serial = serial.is_some_and(|serial| denial.record.serials.iter().any(|it| it == serial));
        let what = match (has_id, has_serial) {
            (true, _) => "node id",
            (false, true) => "certificate",
            (false, false) => continue,
        };
        return Err(Denied::Other { what, node: node.clone(), by: denial.record.by.clone() });
    }
    Ok(())
}

/// Whether this certificate counts: its holder is not revoked, nor the controller that has issued it.
///
/// # Errors
/// If it does not count.
pub fn check_holder(state: &State, holder: &Holder) -> Result<(), Denied> {
    match Member::of(&holder.identity.subject) {
        Some(member) => members::check(state, &member, Some(&holder.serial))?,
        None => {
            let name = holder.identity.subject.name();
            check(state, Some(name), None, Some(&holder.serial))?;
            // The key was made on the host: no controller can use it, whatever it has issued.
            if state.identities().get(name).is_some_and(|it| it.record.key_hash == holder.key_hash) {
                return Ok(());
            }
        }
    }
    members::check_issuers(state, &holder.issuers)
}

/// The revoked members of the cluster.
#[derive(Clone)]
pub struct Denials {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
}

impl std::fmt::Debug for Denials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Denials").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Denials {
    /// Those in `registry`, as `index` shows them.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        Self { registry, keys, index }
    }

    /// Whether the node of this name and node id is revoked.
    ///
    /// # Errors
    /// If it is.
    pub fn check(&self, name: &NodeName, node_id: Option<NodeId>) -> Result<(), Denied> {
        self.index.read(|state| check(state, Some(name), node_id, None))
    }

    /// Whether this certificate counts.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_holder(&self, holder: &Holder) -> Result<(), Denied> {
        self.index.read(|state| check_holder(state, holder))
    }

    /// Whether the controller of this name is revoked.
    ///
    /// # Errors
    /// If it is.
    pub fn check_controller(&self, name: &NodeName) -> Result<(), Denied> {
        self.index.read(|state| members::check(state, &Member::Controller(name.clone()), None))
    }

    /// Notifies of each change of which members are revoked.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.index.subscribe_to_denials()
    }

    /// Revokes a node. Returns whether it holds a claim.
    ///
    /// # Errors
    /// A [`DenialError`].
    pub async fn deny(&self, node: &NodeName, by: &Actor) -> Result<(Revision, bool), DenialError> {
        let keys = [self.keys.denial(node), self.keys.node(node), self.keys.session(node)];
        let ranges = keys.clone().map(|key| KeyRange::key(&key));
        for _ in 0..ATTEMPTS {
            let reading = self.registry.read(&ranges).await?;
            let mut denial = DenialRecord {
                node_ids: Vec::new(),
                serials: Vec::new(),
                denied_unix_ms: unix_ms(),
                by: by.to_string(),
            };
            if let Some(Ok(before)) = reading.entry(0).map(|entry| DenialRecord::decode(&entry.value)) {
                denial = before;
            }
            let held = reading.entry(1).and_then(|entry| NodeRecord::decode(&entry.value).ok());
            let session = reading.entry(2).and_then(|entry| SessionRecord::decode(&entry.value).ok());
            let new_id = held.as_ref().map(|node| node.node_id).filter(|id| !denial.node_ids.contains(id));
            denial.node_ids.extend(new_id);
            let serial = session.map(|session| session.serial).filter(|serial| !serial.is_empty());
            denial.serials.extend(serial.filter(|serial| !denial.serials.contains(serial)));
            let unchanged = |(key, entry): (&String, Option<&crate::registry::Entry>)| match entry {
                Some(entry) => Guard::Unchanged(key.clone(), entry.modified),
                None => Guard::Absent(key.clone()),
            };
            // Not the session: that may change often.
            let guards = keys.iter().zip([reading.entry(0), reading.entry(1)]).map(unchanged).collect();
            let noted = Event::new(What::Revoked).node(node).op(&self.keys, by);
            let txn = Txn { guards, ops: vec![Op::put(keys[0].clone(), denial.encode()), noted] };
            if let Outcome::Committed(revision) = self.registry.commit(txn).await? {
                return Ok((revision, held.is_some()));
            }
        }
        Err(DenialError::Contended(node.clone()))
    }

    /// Permits a revoked node again.
    ///
    /// # Errors
    /// A [`DenialError`].
    pub async fn permit(&self, node: &NodeName, by: &Actor) -> Result<Revision, DenialError> {
        let key = self.keys.denial(node);
        for _ in 0..ATTEMPTS {
            let entry = self.registry.list(&KeyRange::key(&key)).await?.entries.pop();
            let entry = entry.ok_or_else(|| DenialError::NotDenied(node.clone()))?;
            let noted = Event::new(What::RevocationEnded).node(node).op(&self.keys, by);
            let guards = vec![Guard::Unchanged(key.clone(), entry.modified)];
            let txn = Txn { guards, ops: vec![Op::Delete(key.clone()), noted] };
            if let Outcome::Committed(revision) = self.registry.commit(txn).await? {
                return Ok(revision);
            }
        }
        Err(DenialError::Contended(node.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        records::HeldClaim,
        registry::{Listing, fake::FakeStore},
        store,
    };

    async fn state(registry: &SharedRegistry, keys: &Keys) -> State {
        let listing: Listing = registry.list(&keys.all()).await.unwrap();
        let meta = store::open(registry, keys).await.unwrap();
        State::new(keys.clone(), meta, &listing).unwrap()
    }

    #[tokio::test]
    async fn a_revoked_node_is_known_by_name_node_id_and_certificate() {
        let (registry, _) = FakeStore::new().client();
        let keys = Keys::new(&"test".parse().unwrap());
        let meta = store::open(&registry, &keys).await.unwrap();
        let (_task, index) =
            crate::index::IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
        let denials = Denials::new(registry.clone(), keys.clone(), index);
        let [h1, h2] = ["h1", "h2"].map(|name| name.parse::<NodeName>().unwrap());
        let id = NodeId::random();
        let claim = HeldClaim::new("2001:db8::/64".parse().unwrap(), "main".parse().unwrap());
        let record = NodeRecord::new(id, claim);
        let session = SessionRecord { controller: "c".into(), instance: None, serial: "1f".into() };
        let ops =
            vec![Op::put(keys.node(&h1), record.encode()), Op::put(keys.session(&h1), session.encode())];
        registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
        let by = Actor::new("admin ann at ::1");
        assert!(matches!(denials.permit(&h1, &by).await, Err(DenialError::NotDenied(_))));
        assert!(denials.deny(&h1, &by).await.unwrap().1, "it holds a claim");
        assert!(!denials.deny(&h2, &by).await.unwrap().1, "a name alone");
        let now = state(&registry, &keys).await;
        let free: NodeName = "h3".parse().unwrap();
        let refused =
            |name: &NodeName, id, serial| check(&now, Some(name), id, serial).map_err(|it| it.to_string());
        assert!(
            refused(&h1, None, None)
                .unwrap_err()
                .starts_with("node h1 is revoked (by admin ann at ::1); an admin")
        );
        assert!(refused(&h2, None, None).is_err());
        assert!(refused(&free, Some(id), None).unwrap_err().starts_with("this is the node id of node h1"));
        assert!(
            refused(&free, None, Some("1f")).unwrap_err().starts_with("this is the certificate of node h1")
        );
        assert_eq!(refused(&free, Some(NodeId::random()), Some("2f")), Ok(()));
        denials.permit(&h1, &by).await.unwrap();
        let now = state(&registry, &keys).await;
        assert_eq!(check(&now, Some(&h1), Some(id), Some("1f")), Ok(()));
    }
}
