//! Who may make which call: the one table. Pure.
//!
//! A call that has no row is refused; a test compares the table with the services.

use Who::{Admin, Anybody, Controller, Member, Node, Operator, Viewer};
use sextant_identity::{Role, Subject};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Everybody, without a certificate too.
    Anybody,
    /// Whoever has a certificate of the cluster.
    Member,
    /// A node, for itself: whether it is the one that the call names is checked where the call is parsed.
    Node,
    /// People who read.
    Viewer,
    /// People who act on hosts.
    Operator,
    /// People who may do everything.
    Admin,
    /// Other controllers.
    Controller,
}

/// The calls of all services.
static TABLE: [(&str, Who); 48] = [
    ("/sextant.v1.AgentService/Claim", Node),
    ("/sextant.v1.AgentService/Sync", Node),
    ("/sextant.v1.AgentService/Settle", Node),
    ("/sextant.v1.AgentService/Release", Node),
    // Its proof is in the request: a join token, or an ended certificate.
    ("/sextant.v1.AgentService/Enroll", Anybody),
    ("/sextant.v1.AgentService/Renew", Node),
    ("/sextant.v1.AdminService/WhoAmI", Member),
    ("/sextant.v1.AdminService/ListPools", Viewer),
    ("/sextant.v1.AdminService/ListReservations", Viewer),
    ("/sextant.v1.AdminService/ListNodes", Viewer),
    ("/sextant.v1.AdminService/NodeContainers", Viewer),
    ("/sextant.v1.AdminService/NodeNdp", Viewer),
    ("/sextant.v1.AdminService/ListRoutes", Viewer),
    ("/sextant.v1.AdminService/Status", Viewer),
    ("/sextant.v1.AdminService/Explain", Viewer),
    ("/sextant.v1.AdminService/Events", Viewer),
    ("/sextant.v1.AdminService/Wait", Viewer),
    ("/sextant.v1.AdminService/PlanNode", Operator),
    ("/sextant.v1.AdminService/Trace", Operator),
    ("/sextant.v1.AdminService/DrainPool", Operator),
    ("/sextant.v1.AdminService/DrainNode", Operator),
    ("/sextant.v1.AdminService/UndrainNode", Operator),
    ("/sextant.v1.AdminService/Reserve", Operator),
    ("/sextant.v1.AdminService/Unreserve", Operator),
    ("/sextant.v1.AdminService/Pause", Operator),
    ("/sextant.v1.AdminService/Resume", Operator),
    ("/sextant.v1.AdminService/AddPool", Admin),
    ("/sextant.v1.AdminService/RemovePool", Admin),
    ("/sextant.v1.AdminService/GrowPool", Admin),
    ("/sextant.v1.AdminService/RevokeNode", Admin),
    ("/sextant.v1.AdminService/RevokeMember", Admin),
    ("/sextant.v1.AdminService/ListRevoked", Admin),
    ("/sextant.v1.AdminService/ForgetNode", Admin),
    ("/sextant.v1.AdminService/ReassignNode", Admin),
    ("/sextant.v1.AdminService/Backup", Admin),
    ("/sextant.v1.AdminService/Restore", Admin),
    ("/sextant.v1.AdminService/UndoRestore", Admin),
    ("/sextant.v1.AdminService/FinishRecovery", Admin),
    ("/sextant.v1.AdminService/AcceptUnsigned", Admin),
    ("/sextant.v1.AdminService/CreateToken", Admin),
    ("/sextant.v1.AdminService/ListTokens", Admin),
    ("/sextant.v1.AdminService/RevokeToken", Admin),
    ("/sextant.v1.ControllerService/Acks", Controller),
    ("/sextant.v1.ControllerService/Ask", Controller),
    ("/grpc.health.v1.Health/Check", Anybody),
    ("/grpc.health.v1.Health/Watch", Anybody),
    ("/grpc.health.v1.Health/List", Anybody),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Viewer),
];

/// Who may make the call at this path; `None` if there is no such call.
pub(super) fn of(path: &str) -> Option<Who> {
    row(path).map(|(_, who)| *who)
}

/// The path, if there is such a call.
pub(super) fn named(path: &str) -> Option<&'static str> {
    row(path).map(|(path, _)| *path)
}

fn row(path: &str) -> Option<&'static (&'static str, Who)> {
    TABLE.iter().find(|(row, _)| *row == path)
}

/// The paths of the calls that people who read may make.
#[cfg(test)]
pub(super) fn reads() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|(_, who)| *who == Viewer).map(|(path, _)| *path)
}

impl Who {
    /// Whether a member of the cluster is meant.
    pub(super) fn includes(self, subject: &Subject, role: Option<Role>) -> bool {
        let is_person = |least: Role| matches!(subject, Subject::Admin(_)) && role >= Some(least);
        match self {
            Anybody | Member => true,
            Node => matches!(subject, Subject::Node(_)),
            Controller => matches!(subject, Subject::Controller(_)),
            Viewer => is_person(Role::Viewer),
            Operator => is_person(Role::Operator),
            Admin => is_person(Role::Admin),
        }
    }

    /// The callers, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Anybody => "anybody",
            Member => "members of the cluster",
            Node => "nodes",
            Viewer => "people (viewer, operator or admin)",
            Operator => "operators and admins",
            Admin => "admins",
            Controller => "controllers",
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sextant_proto::v1;

    use super::*;

    #[test]
    fn each_call_of_each_service_has_a_row_and_each_row_a_call() {
        let files = prost_types::FileDescriptorSet::decode(v1::DESCRIPTORS).unwrap().file;
        let calls = files.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                let of = format!("/{}.{}", file.package(), service.name());
                service.method.iter().map(move |method| format!("{of}/{}", method.name()))
            })
        });
        let calls: Vec<String> = calls.collect();
        assert!(calls.len() > 30, "{calls:?}");
        for call in &calls {
            assert!(of(call).is_some(), "{call} has no row");
        }
        let ours = TABLE.iter().filter(|(row, _)| row.starts_with("/sextant."));
        for (row, _) in ours {
            assert!(calls.iter().any(|call| call == row), "{row} is no call");
        }
        assert_eq!(of("/sextant.v1.AdminService/Reboot"), None);
    }

    #[test]
    fn nobody_may_do_what_others_are_for() {
        let [node, controller] =
            ["node/h1", "controller/a"].map(|name| subject(&format!("spiffe://c/{name}")));
        let person = subject("spiffe://c/admin/ann");
        for (_, who) in TABLE {
            let may = |subject: &Subject, role| who.includes(subject, role);
            let all = [
                may(&node, None),
                may(&controller, None),
                may(&person, Some(Role::Viewer)),
                may(&person, Some(Role::Operator)),
                may(&person, Some(Role::Admin)),
            ];
            let expected = match who {
                Anybody | Member => [true; 5],
                Node => [true, false, false, false, false],
                Controller => [false, true, false, false, false],
                Viewer => [false, false, true, true, true],
                Operator => [false, false, false, true, true],
                Admin => [false, false, false, false, true],
            };
            assert_eq!(all, expected, "{who:?}");
        }
        // A role in a node's certificate means nothing.
        assert!(!Admin.includes(&node, Some(Role::Admin)));
    }

    fn subject(uri: &str) -> Subject {
        uri.parse::<sextant_identity::Identity>().unwrap().subject
    }
}
