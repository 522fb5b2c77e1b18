//! `sextant revoke`: people and controllers.

use serde_json::Value;
use sextant_proto::{NodeName, Revision, v1};

use crate::{
    args::{Revoke, RevokedName},
    failure::Failure,
    global::Output,
    json,
    link::Link,
    show::{self, Show},
    text,
};

/// `sextant revoke admin`, `controller` and `list`.
pub(crate) async fn revoke(link: &mut Link, output: Output, command: Revoke) -> Result<(), Failure> {
    match command {
        Revoke::Admin(named) => change(link, output, "admin", named).await,
        Revoke::Controller(named) => change(link, output, "controller", named).await,
        Revoke::List => show::print(output, &Revoked(link.revoked().await?)),
    }
}

async fn change(
    link: &mut Link,
    output: Output,
    kind: &'static str,
    named: RevokedName,
) -> Result<(), Failure> {
    let RevokedName { name, serial, undo } = named;
    let request = v1::RevokeMemberRequest {
        kind: kind.to_owned(),
        name: name.to_string(),
        serial: serial.clone().unwrap_or_default(),
        undo,
    };
    let revision = link.revoke_member(&request).await?;
    show::print(output, &Changed { kind, name, serial, revoked: !undo, revision })
}

struct Revoked(Vec<v1::RevokedMember>);

struct Changed {
    kind: &'static str,
    name: NodeName,
    serial: Option<String>,
    revoked: bool,
    revision: Revision,
}

impl Show for Revoked {
    fn text(&self, now_unix_ms: u64) -> String {
        text::revoked_list(&self.0, now_unix_ms)
    }

    fn json(&self) -> Value {
        json::list(self.0.iter().map(json::RevokedMember::from))
    }
}

impl Show for Changed {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Self { kind, name, .. } = self;
        let which =
            self.serial.as_ref().map(|serial| format!(" with certificate {serial}")).unwrap_or_default();
        match (self.revoked, *kind) {
            (false, _) => format!("{kind} {name}{which} permitted again\n"),
            (true, "controller") => format!(
                "{kind} {name}{which} revoked: its calls are refused, and the certificates and receipts that it has issued. Stop it, and \
                 take its access to the store away\n"
            ),
            (true, _) => format!("{kind} {name}{which} revoked: its streams and calls are refused\n"),
        }
    }

    fn json(&self) -> Value {
        json::value(json::MemberRevoked {
            kind: self.kind,
            name: &self.name,
            serial: self.serial.as_deref(),
            revoked: self.revoked,
            revision: self.revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_names_what_is_left_to_do() {
        let of = |kind, serial: Option<&str>, revoked| {
            let (name, serial) = ("c2".parse().unwrap(), serial.map(str::to_owned));
            Changed { kind, name, serial, revoked, revision: Revision(7) }.text(0)
        };
        assert_eq!(of("admin", None, true), "admin c2 revoked: its streams and calls are refused\n");
        assert!(
            of("controller", Some("a1"), true).starts_with("controller c2 with certificate a1 revoked: ")
        );
        assert!(of("controller", None, true).contains("access to the store"));
        assert_eq!(of("controller", None, false), "controller c2 permitted again\n");
    }
}
