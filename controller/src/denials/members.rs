//! Revoked people and controllers.

use sextant_identity::certificate::Issuer;
use sextant_proto::Revision;

use super::{ATTEMPTS, DenialError, Denials, Denied, MOST_SERIALS};
use crate::{
    audit::{Actor, Event, What},
    index::State,
    keys::Member,
    records::{MemberDenial, Record, unix_ms},
    registry::{Guard, KeyRange, Op, Outcome, Txn},
};

/// Whether `member` is revoked, with each certificate or that of this serial number.
pub(super) fn check(state: &State, member: &Member, serial: Option<&str>) -> Result<(), Denied> {
    let Some(denial) = state.member_denials().get(member) else { return Ok(()) };
    let (member, by) = (member.clone(), denial.record.by.clone());
    match serial {
        _ if denial.record.all => Err(Denied::Member { member, by }),
        Some(serial) if denial.record.includes(serial) => {
            Err(Denied::Certificate { member, serial: serial.to_owned(), by })
        }
        _ => Ok(()),
    }
}

/// Whether one of these issuing certificates is revoked, or the controller that has it.
///
/// # Errors
/// If one is.
pub fn check_issuers(state: &State, issuers: &[Issuer]) -> Result<(), Denied> {
    for Issuer { controller, serial } in issuers {
        let denial = state.member_denials().get(&Member::Controller(controller.clone()));
        if let Some(denial) = denial.filter(|denial| denial.record.includes(serial)) {
            return Err(Denied::Issuer { controller: controller.clone(), by: denial.record.by.clone() });
        }
    }
    Ok(())
}

/// The record after one more revocation.
fn denied(before: Option<MemberDenial>, serial: Option<&str>, by: &Actor) -> MemberDenial {
    let none =
        MemberDenial { all: false, serials: Vec::new(), denied_unix_ms: unix_ms(), by: by.to_string() };
    let mut denial = before.unwrap_or(none);
    match serial {
        None => denial.all = true,
        Some(serial) if denial.serials.iter().any(|it| it == serial) => {}
        Some(serial) => denial.serials.push(serial.to_owned()),
    }
    denial
}

/// The record after the end of a revocation; none if nothing is left of it, and an error if there was no such one.
fn permitted(before: Option<MemberDenial>, serial: Option<&str>) -> Result<Option<MemberDenial>, ()> {
    let mut denial = before.ok_or(())?;
    match serial {
        // The name with all that is recorded of it.
        None => return Ok(None),
        Some(serial) => {
            let index = denial.serials.iter().position(|it| it == serial).ok_or(())?;
            denial.serials.remove(index);
        }
    }
    Ok((denial.all || !denial.serials.is_empty()).then_some(denial))
}

impl Denials {
    /// Revokes a person or a controller, or one certificate of it.
    ///
    /// # Errors
    /// A [`DenialError`].
    pub async fn deny_member(
        &self,
        member: &Member,
        serial: Option<&str>,
        by: &Actor,
    ) -> Result<Revision, DenialError> {
        let next = |before| {
            let denial = denied(before, serial, by);
            if denial.serials.len() > MOST_SERIALS {
                return Err(DenialError::TooMany(member.clone()));
            }
            Ok(Some(denial))
        };
        self.change(member, serial, What::Revoked, by, next).await
    }

    /// Permits a person or a controller again, or one certificate of it.
    ///
    /// # Errors
    /// A [`DenialError`].
    pub async fn permit_member(
        &self,
        member: &Member,
        serial: Option<&str>,
        by: &Actor,
    ) -> Result<Revision, DenialError> {
        let next =
            |before| permitted(before, serial).map_err(|()| DenialError::MemberNotDenied(member.clone()));
        self.change(member, serial, What::RevocationEnded, by, next).await
    }

    async fn change(
        &self,
        member: &Member,
        serial: Option<&str>,
        what: What,
        by: &Actor,
        next: impl Fn(Option<MemberDenial>) -> Result<Option<MemberDenial>, DenialError>,
    ) -> Result<Revision, DenialError> {
        let key = self.keys.member_denial(member);
        let of = serial.map(|serial| format!(", certificate {serial}")).unwrap_or_default();
        for _ in 0..ATTEMPTS {
            let entry = self.registry.list(&KeyRange::key(&key)).await?.entries.pop();
            let before = entry.as_ref().and_then(|entry| MemberDenial::decode(&entry.value).ok());
            let op = match next(before)? {
                Some(denial) => Op::put(key.clone(), denial.encode()),
                None => Op::Delete(key.clone()),
            };
            let guard = match &entry {
                Some(entry) => Guard::Unchanged(key.clone(), entry.modified),
                None => Guard::Absent(key.clone()),
            };
            let noted = Event::new(what).detail(format!("{member}{of}")).op(&self.keys, by);
            let txn = Txn { guards: vec![guard], ops: vec![op, noted] };
            if let Outcome::Committed(revision) = self.registry.commit(txn).await? {
                return Ok(revision);
            }
        }
        Err(DenialError::MemberContended(member.clone()))
    }
}

#[cfg(test)]
mod tests {
    use sextant_identity::Holder;

    use super::{super::check_holder, *};

    fn by() -> Actor {
        Actor::new("admin ann at ::1")
    }

    #[test]
    fn a_certificate_is_revoked_without_its_name_and_a_name_with_all_certificates() {
        let one = denied(None, Some("1f"), &by());
        assert!(one.includes("1f") && !one.includes("2f"));
        assert_eq!(denied(Some(one.clone()), Some("1f"), &by()), one, "not twice");
        let all = denied(Some(one), None, &by());
        assert!(all.includes("2f"));
        assert_eq!(MemberDenial::decode(&all.encode()).unwrap(), all);
    }

    /// The state of a store with these entries.
    async fn state(ops: Vec<Op>) -> State {
        let (registry, _) = crate::registry::fake::FakeStore::new().client();
        let keys = crate::keys::Keys::new(&"test".parse().unwrap());
        let meta = crate::store::open(&registry, &keys).await.unwrap();
        registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
        State::new(keys.clone(), meta, &registry.list(&keys.all()).await.unwrap()).unwrap()
    }

    fn holder(uri: &str, key: u8, issuer: &str) -> Holder {
        Holder {
            identity: uri.parse().unwrap(),
            role: None,
            serial: "5e".to_owned(),
            begins: std::time::SystemTime::UNIX_EPOCH,
            ends: std::time::SystemTime::UNIX_EPOCH,
            key_hash: [key; 32],
            issuers: vec![Issuer { controller: issuer.parse().unwrap(), serial: "a2".to_owned() }],
        }
    }

    #[tokio::test]
    async fn what_a_revoked_controller_has_issued_counts_for_the_key_of_a_node_that_has_joined_alone() {
        let keys = crate::keys::Keys::new(&"test".parse().unwrap());
        let key = keys.member_denial(&Member::Controller("c2".parse().unwrap()));
        let identity = crate::records::NodeIdentity { key_hash: [7; 32] };
        let known = Op::put(keys.identity(&"h1".parse().unwrap()), identity.encode());
        for serial in [None, Some("a2")] {
            let denial = Op::put(key.clone(), denied(None, serial, &by()).encode());
            let now = state(vec![known.clone(), denial]).await;
            let counts = |uri: &str, key, issuer| check_holder(&now, &holder(uri, key, issuer)).is_ok();
            assert!(counts("spiffe://c/node/h1", 7, "c2"), "the host's own key");
            assert!(!counts("spiffe://c/node/h1", 8, "c2"), "another host as h1");
            assert!(!counts("spiffe://c/node/h2", 7, "c2"), "a node that has not joined");
            assert!(!counts("spiffe://c/admin/ann", 7, "c2"));
            assert!(!counts("spiffe://c/controller/c1", 7, "c2"));
            for uri in ["spiffe://c/node/h2", "spiffe://c/admin/ann", "spiffe://c/controller/c1"] {
                assert!(counts(uri, 8, "c1"), "{uri} of another controller");
            }
            assert_eq!(counts("spiffe://c/controller/c2", 8, "c1"), serial.is_some(), "the name");
        }
        let other = Op::put(key, denied(None, Some("a3"), &by()).encode());
        let now = state(vec![other]).await;
        assert!(
            check_holder(&now, &holder("spiffe://c/admin/ann", 8, "c2")).is_ok(),
            "another issuing certificate"
        );
    }

    #[tokio::test]
    async fn a_revoked_node_is_refused_with_the_key_that_it_has_joined_with() {
        let keys = crate::keys::Keys::new(&"test".parse().unwrap());
        let h1 = "h1".parse().unwrap();
        let identity = crate::records::NodeIdentity { key_hash: [7; 32] };
        let denial = crate::records::DenialRecord {
            node_ids: Vec::new(),
            serials: Vec::new(),
            denied_unix_ms: 1,
            by: String::new(),
        };
        let ops =
            vec![Op::put(keys.identity(&h1), identity.encode()), Op::put(keys.denial(&h1), denial.encode())];
        let now = state(ops).await;
        assert!(check_holder(&now, &holder("spiffe://c/node/h1", 7, "c1")).is_err());
    }

    #[test]
    fn a_revocation_is_ended_as_it_was_made() {
        let one = denied(None, Some("1f"), &by());
        let two = denied(Some(one.clone()), Some("2f"), &by());
        assert_eq!(permitted(Some(two.clone()), Some("2f")), Ok(Some(one.clone())));
        assert_eq!(permitted(Some(one.clone()), Some("1f")), Ok(None));
        assert_eq!(permitted(Some(one), Some("3f")), Err(()));
        assert_eq!(permitted(Some(two), None), Ok(None));
        assert_eq!((permitted(None, None), permitted(None, Some("1f"))), (Err(()), Err(())));
    }
}
