use sextant_proto::{NodeId, NodeState, Prefix};

use super::*;
use crate::audit::{Actor, Event as Noted, What};
use crate::records::{ClaimRecord, Observers, Seen};

/// Of two agents.
fn observers(forwarding: bool) -> Observers {
    if forwarding { Observers { forwarding: 2, dead: 0 } } else { Observers { forwarding: 0, dead: 2 } }
}

fn entry(key: String, value: Bytes, revision: u64) -> Entry {
    Entry { key, value, created: Revision(revision), modified: Revision(revision), lease: None }
}

struct Fixture {
    keys: Keys,
    state: State,
}

impl Fixture {
    fn new() -> Self {
        let keys = Keys::new(&"default".parse().unwrap());
        let meta = Meta::new();
        let listing = Listing { revision: Revision(1), entries: vec![entry(keys.meta(), meta.encode(), 1)] };
        Self { state: State::new(keys.clone(), meta, &listing).unwrap(), keys }
    }

    fn apply(
        &mut self,
        revision: u64,
        puts: Vec<(String, Bytes)>,
        deletes: Vec<String>,
    ) -> Option<v1::Delta> {
        let puts = puts.into_iter().map(|(key, value)| Event::Put(entry(key, value, revision)));
        let deletes = deletes.into_iter().map(|key| Event::Deleted { key, revision: Revision(revision) });
        let batch = Batch { revision: Revision(revision), events: puts.chain(deletes).collect() };
        match self.state.apply(&batch).unwrap() {
            Applied::Delta(delta) => delta.map(|delta| v1::Delta::decode(delta).unwrap()),
            Applied::Anew => panic!("to be read anew"),
        }
    }

    fn claim(&mut self, revision: u64) -> Option<v1::Delta> {
        let (prefix, node_id) = (prefix(), NodeId::random());
        let pool: PoolName = "main".parse().unwrap();
        let claim =
            ClaimRecord { node: name(), node_id, pool: pool.clone(), claimed_unix_ms: 0, prior: None };
        let node = NodeRecord {
            state: NodeState::Joining,
            uplinks: vec![],
            since_unix_ms: 0,
            ..NodeRecord::new(node_id, HeldClaim { announced: false, ..HeldClaim::new(prefix, pool.clone()) })
        };
        let puts = vec![(self.keys.claim(prefix), claim.encode()), (self.keys.node(&name()), node.encode())];
        self.apply(revision, puts, vec![])
    }
}

fn name() -> NodeName {
    "host1".parse().unwrap()
}

fn prefix() -> Prefix {
    "2001:db8:1::/64".parse().unwrap()
}

#[test]
fn a_claim_is_one_peer_with_the_claims_revision() {
    let mut fixture = Fixture::new();
    let delta = fixture.claim(4).unwrap();
    assert_eq!((delta.since, delta.revision, delta.changes.len()), (1, 4, 1));
    assert_eq!(fixture.state.peers()[&name()].claims[0].claimed, Revision(4));
}

#[test]
fn a_change_that_agents_cannot_see_makes_no_delta() {
    let mut fixture = Fixture::new();
    let controller = ControllerRecord { address: "x".into(), version: "1".into(), tls: None }.encode();
    let put = vec![(fixture.keys.controller("c1"), controller)];
    assert_eq!(fixture.apply(2, put, vec![]), None);
    let delta = fixture.claim(3).unwrap();
    assert_eq!(delta.since, 1, "the chain goes on from the last delta, not from the last revision");
}

#[test]
fn a_session_comes_and_goes() {
    let mut fixture = Fixture::new();
    fixture.claim(2);
    let session = SessionRecord { controller: "c1".into(), instance: None, serial: String::new() }.encode();
    let put = vec![(fixture.keys.session(&name()), session)];
    assert!(fixture.apply(3, put.clone(), vec![]).is_some());
    assert!(fixture.apply(4, put, vec![]).is_none(), "a session that moves is no news for agents");
    let gone = fixture.apply(5, vec![], vec![fixture.keys.session(&name())]).unwrap();
    assert_eq!(gone.since, 3);
    assert!(!fixture.state.peers()[&name()].session);
}

#[test]
fn a_node_forwards_if_any_controllers_agents_say_so() {
    let mut fixture = Fixture::new();
    let (node, other) = (name(), "host10".parse().unwrap());
    let put = |fixture: &Fixture, node: &NodeName, controller: &str, forwarding, since_unix_ms| {
        let record = VerdictRecord::of(observers(forwarding), since_unix_ms);
        (fixture.keys.verdict(node, controller), record.encode())
    };
    assert_eq!(fixture.state.verdict(&node), None);
    let puts = vec![put(&fixture, &node, "c1", false, 7), put(&fixture, &other, "c1", true, 1)];
    assert_eq!(fixture.apply(2, puts, vec![]), None, "agents see none of it");
    assert_eq!(fixture.state.verdict(&node), Some(Seen { forwarding: false, since_unix_ms: 7 }));
    let puts = vec![put(&fixture, &node, "c2", true, 9), put(&fixture, &node, "c3", true, 8)];
    fixture.apply(3, puts, vec![]);
    assert_eq!(fixture.state.verdict(&node), Some(Seen { forwarding: true, since_unix_ms: 8 }));
    assert!(fixture.state.known_keys().any(|key| key == fixture.keys.verdict(&node, "c2")));
    let gone = ["c1", "c2", "c3"].map(|controller| fixture.keys.verdict(&node, controller));
    fixture.apply(4, vec![], gone.to_vec());
    assert_eq!(fixture.state.verdict(&node), None);
}

#[test]
fn an_unreadable_record_keeps_what_was() {
    let mut fixture = Fixture::new();
    fixture.claim(2);
    let key = fixture.keys.node(&name());
    assert_eq!(fixture.apply(3, vec![(key, Bytes::from_static(b"\xff"))], vec![]), None);
    assert!(fixture.state.peers().contains_key(&name()));
}

#[test]
fn nothing_is_published_once_the_store_is_wiped() {
    let mut fixture = Fixture::new();
    fixture.claim(2);
    let deletes = vec![fixture.keys.node(&name()), fixture.keys.meta()];
    let events = deletes.into_iter().map(|key| Event::Deleted { key, revision: Revision(3) }).collect();
    assert!(fixture.state.apply(&Batch { revision: Revision(3), events }).is_err());
}

#[test]
fn i8_the_audit_is_no_change_for_agents_and_is_not_held() {
    let mut fixture = Fixture::new();
    let known = fixture.state.known_keys().count();
    let op = Noted::new(What::Paused).op(&fixture.keys, &Actor::controller());
    let crate::registry::Op::Put { key, value, .. } = op else { panic!("{op:?}") };
    assert_eq!(fixture.apply(4, vec![(key.clone(), value)], vec![]), None);
    assert_eq!((fixture.state.known_keys().count(), fixture.state.published()), (known, Revision(1)));
    assert_eq!(fixture.apply(5, vec![], vec![key]), None);
}

/// A restore is seen as a whole or not at all.
#[test]
fn nothing_of_a_restore_is_published_until_it_is_complete() {
    let mut fixture = Fixture::new();
    let (meta, key) = (fixture.state.meta().clone(), fixture.keys.meta());
    let begun = Meta { restoring: true, ..meta.clone() };
    assert_eq!(fixture.apply(3, vec![(key.clone(), begun.encode())], vec![]), None);
    assert_eq!(fixture.claim(4), None);
    let put = |revision, meta: &Meta| Batch {
        revision: Revision(revision),
        events: vec![Event::Put(entry(key.clone(), meta.encode(), revision))],
    };
    let replaced = Meta { replaces: Some(meta.incarnation), ..Meta::new() };
    assert_eq!(fixture.state.apply(&put(5, &meta)), Ok(Applied::Anew), "taken back");
    assert_eq!(fixture.state.apply(&put(5, &replaced)), Ok(Applied::Anew), "whole");
    assert!(fixture.state.apply(&put(5, &Meta::new())).is_err(), "another store altogether");
}

/// A relist compares with these: a revocation that ended while the watch was interrupted must not stay.
#[test]
fn revocations_and_keys_of_nodes_are_known_and_gone_with_their_records() {
    use crate::records::{DenialRecord, MemberDenial, NodeIdentity};
    let mut fixture = Fixture::new();
    let member = Member::Admin(name());
    let node = DenialRecord { node_ids: vec![], serials: vec![], denied_unix_ms: 1, by: String::new() };
    let person = MemberDenial { all: true, serials: vec![], denied_unix_ms: 1, by: String::new() };
    let puts = vec![
        (fixture.keys.denial(&name()), node.encode()),
        (fixture.keys.member_denial(&member), person.encode()),
        (fixture.keys.identity(&name()), NodeIdentity { key_hash: [1; 32] }.encode()),
    ];
    let keys: Vec<String> = puts.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(fixture.apply(2, puts, vec![]), None, "agents do not see them");
    let known: Vec<String> = fixture.state.known_keys().collect();
    assert!(keys.iter().all(|key| known.contains(key)), "{known:?}");
    assert!(fixture.state.member_denials().contains_key(&member));
    fixture.apply(3, vec![], keys.clone());
    assert!(fixture.state.known_keys().all(|key| !keys.contains(&key)));
    assert!(fixture.state.identities().is_empty() && fixture.state.denials().is_empty());
}
