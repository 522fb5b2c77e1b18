//! The revocation of people and controllers: the calls of admins.

use sextant_proto::{
    NodeName, Revision,
    convert::{self, MessageError},
    v1,
};
use tonic::Status;

use super::{principal::Principal, status::malformed};
use crate::{audit::Actor, denials::Denials, index::State, keys::Member};

/// The most digits of a serial number: 20 octets (RFC 5280 §4.1.2.2).
const MOST_DIGITS: usize = 40;

/// A change of who is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    member: Member,
    /// The only certificate that is meant.
    serial: Option<String>,
    undo: bool,
}

impl Change {
    pub(super) fn parse(request: v1::RevokeMemberRequest) -> Result<Self, Status> {
        let v1::RevokeMemberRequest { kind, name, serial, undo } = request;
        let name: NodeName = convert::parse("name", &name).map_err(malformed)?;
        let member = match kind.as_str() {
            "admin" => Member::Admin(name),
            "controller" => Member::Controller(name),
            _ => return Err(malformed(MessageError::new("kind", "is neither \"admin\" nor \"controller\""))),
        };
        let serial = (!serial.is_empty()).then(|| digits(&serial)).transpose().map_err(malformed)?;
        Ok(Self { member, serial, undo })
    }

    /// Refuses what the caller could not undo: to revoke itself, the controller that has issued its certificate, or the one that answers.
    pub(super) fn locks_nobody_out(&self, caller: &Principal, own: Option<&NodeName>) -> Result<(), Status> {
        let refused = |why: String| {
            Err(Status::failed_precondition(format!("{}: {why}; nothing was changed", self.member)))
        };
        let meant = |serial: &str| self.serial.as_deref().is_none_or(|it| it == serial);
        if self.undo {
            return Ok(());
        }
        if let Some(holder) = caller.holder() {
            if Member::of(&holder.identity.subject).as_ref() == Some(&self.member) && meant(&holder.serial) {
                return refused("this is the caller's own certificate; ask another admin".to_owned());
            }
            let issued = |it: &&sextant_identity::certificate::Issuer| {
                self.member == Member::Controller(it.controller.clone()) && meant(&it.serial)
            };
            if let Some(issuer) = holder.issuers.iter().find(issued) {
                let controller = &issuer.controller;
                return refused(format!(
                    "it has issued the caller's own certificate; get another one first, on the machine of another controller: \
                     sextant-controller pki admin (this is of {controller})"
                ));
            }
        }
        match (&self.member, own) {
            (Member::Controller(name), Some(own)) if name == own && self.serial.is_none() => {
                refused("this is the controller that was asked; ask another one (--controller)".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn make(&self, denials: &Denials, by: &Actor) -> Result<Revision, Status> {
        let Self { member, serial, undo } = self;
        let serial = serial.as_deref();
        let revision = match undo {
            true => denials.permit_member(member, serial, by).await?,
            false => denials.deny_member(member, serial, by).await?,
        };
        tracing::warn!(%member, serial, %by, revoked = !undo, "revocation of a person or controller changed");
        Ok(revision)
    }
}

/// A serial number as certificates have it here: openssl shows it in capitals, with colons, and with a leading zero.
fn digits(serial: &str) -> Result<String, MessageError> {
    let digits = serial.trim().replace(':', "").to_lowercase();
    let digits = digits.trim_start_matches('0');
    let is_one = digits.len() <= MOST_DIGITS && digits.bytes().all(|it| it.is_ascii_hexdigit());
    if digits.is_empty() || !is_one {
        return Err(MessageError::new(
            "serial",
            "is none: give the hexadecimal digits that `sextant whoami` shows",
        ));
    }
    Ok(digits.to_owned())
}

/// All that are revoked.
pub(super) fn list(state: &State) -> v1::ListRevokedResponse {
    let nodes = state.denials().iter().map(|(name, denial)| v1::RevokedMember {
        kind: "node".to_owned(),
        name: name.to_string(),
        all: true,
        serials: denial.record.serials.clone(),
        since_unix_ms: denial.record.denied_unix_ms,
        by: denial.record.by.clone(),
    });
    let members = state.member_denials().iter().map(|(member, denial)| v1::RevokedMember {
        kind: member.kind().to_owned(),
        name: member.name().to_string(),
        all: denial.record.all,
        serials: denial.record.serials.clone(),
        since_unix_ms: denial.record.denied_unix_ms,
        by: denial.record.by.clone(),
    });
    v1::ListRevokedResponse { revoked: nodes.chain(members).collect() }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use sextant_identity::{Holder, certificate::Issuer};

    use super::*;

    fn change(kind: &str, name: &str, serial: &str) -> Change {
        let (kind, name, serial) = (kind.to_owned(), name.to_owned(), serial.to_owned());
        Change::parse(v1::RevokeMemberRequest { kind, name, serial, undo: false }).unwrap()
    }

    /// Ann, whose certificate c1 has issued.
    fn ann() -> Principal {
        Principal::Member(Arc::new(Holder {
            identity: "spiffe://default/admin/ann".parse().unwrap(),
            role: Some(sextant_identity::Role::Admin),
            serial: "1f".to_owned(),
            begins: SystemTime::UNIX_EPOCH,
            ends: SystemTime::UNIX_EPOCH,
            key_hash: [0; 32],
            issuers: vec![Issuer { controller: "c1".parse().unwrap(), serial: "a1".to_owned() }],
        }))
    }

    #[test]
    fn nobody_revokes_what_the_own_access_depends_on() {
        let own = "c2".parse().unwrap();
        let why = |change: &Change| {
            change.locks_nobody_out(&ann(), Some(&own)).map_err(|status| status.message().to_owned())
        };
        for (refused, said) in [
            (change("admin", "ann", ""), "admin ann: this is the caller's own certificate"),
            (change("admin", "ann", "1F"), "admin ann: this is the caller's own certificate"),
            (change("controller", "c1", ""), "controller c1: it has issued the caller's own certificate"),
            (change("controller", "c1", "00:A1"), "controller c1: it has issued"),
            (change("controller", "c2", ""), "controller c2: this is the controller that was asked"),
        ] {
            let error = why(&refused).unwrap_err();
            assert!(error.starts_with(said) && error.ends_with("nothing was changed"), "{error}");
            assert_eq!(why(&Change { undo: true, ..refused }), Ok(()));
        }
        for permitted in [
            change("admin", "bob", ""),
            change("admin", "ann", "2f"),
            change("controller", "c1", "a2"),
            change("controller", "c3", ""),
            // A person and a controller of one name are two.
            change("admin", "c1", ""),
            change("controller", "ann", ""),
        ] {
            assert_eq!(why(&permitted), Ok(()), "{permitted:?}");
        }
        assert!(change("admin", "ann", "").locks_nobody_out(&Principal::Insecure, None).is_ok());
    }

    #[test]
    fn a_serial_number_is_read_as_openssl_shows_it() {
        assert_eq!(digits("0A:1F"), Ok("a1f".to_owned()));
        assert_eq!(digits(" 4c "), Ok("4c".to_owned()));
        for text in ["0", "xyz", ":", &"a".repeat(41)] {
            assert!(digits(text).is_err(), "{text}");
        }
        let kind = |kind: &str| v1::RevokeMemberRequest {
            kind: kind.into(),
            name: "h1".into(),
            ..Default::default()
        };
        assert!(Change::parse(kind("node")).unwrap_err().message().contains("kind"));
        assert!(Change::parse(kind("admin")).is_ok());
    }
}
