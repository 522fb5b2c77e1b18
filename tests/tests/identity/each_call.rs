//! Each call of each service, made by each kind of caller over a real connection: it is answered exactly as the table says.

use std::{collections::BTreeSet, fs, path::Path};

use prost::bytes::{Buf, BufMut};
use sextant_tests::SECONDS;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::{authority::Authority, bed::Bed, client::Client};

const ANYBODY: &[&str] = &["Enroll"];
const NODE: &[&str] = &["Claim", "Sync", "Settle", "Release", "Renew"];
const MEMBER: &[&str] = &["WhoAmI"];
const VIEWER: &[&str] = &[
    "ListPools",
    "ListReservations",
    "ListNodes",
    "NodeContainers",
    "NodeNdp",
    "ListRoutes",
    "Status",
    "Explain",
    "Events",
    "Wait",
];
const OPERATOR: &[&str] = &[
    "PlanNode",
    "Trace",
    "DrainPool",
    "DrainNode",
    "UndrainNode",
    "Reserve",
    "Unreserve",
    "Pause",
    "Resume",
];
const ADMIN: &[&str] = &[
    "AddPool",
    "RemovePool",
    "GrowPool",
    "RevokeNode",
    "RevokeMember",
    "ListRevoked",
    "ForgetNode",
    "ReassignNode",
    "Backup",
    "Restore",
    "UndoRestore",
    "FinishRecovery",
    "AcceptUnsigned",
    "CreateToken",
    "ListTokens",
    "RevokeToken",
];
const CONTROLLER: &[&str] = &["Acks", "Ask"];

/// The paths of all calls, by the protocol's files.
fn calls() -> Vec<String> {
    let mut found = Vec::new();
    for name in ["admin", "agent", "controller"] {
        let file = format!("../proto/proto/sextant/v1/{name}.proto");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let mut service = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.split(' ').next().unwrap();
            } else if let Some(rest) = line.trim().strip_prefix("rpc ") {
                found.push(format!("/sextant.v1.{service}/{}", rest.split('(').next().unwrap()));
            }
        }
    }
    found
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// Messages of octets.
struct Octets;

impl Codec for Octets {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Octets {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Octets {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Why a call with an empty message is not for the caller. One that begins to answer, lets wait, or needs more is for it.
fn refusal(client: &Client, path: &str) -> Option<Code> {
    let mut grpc = Grpc::new(client.channel.clone());
    let path: PathAndQuery = path.parse().unwrap();
    client.runtime.block_on(async move {
        grpc.ready().await.ok()?;
        let call = grpc.server_streaming(Request::new(Vec::new()), path, Octets);
        let answer = tokio::time::timeout(2 * SECONDS, call).await.ok()?;
        let code = answer.err()?.code();
        matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented).then_some(code)
    })
}

#[test]
fn each_call_is_answered_to_those_of_the_table_alone() {
    let calls = calls();
    let groups = [ANYBODY, NODE, MEMBER, VIEWER, OPERATOR, ADMIN, CONTROLLER];
    let (named, known): (BTreeSet<_>, BTreeSet<_>) =
        (calls.iter().map(|path| name(path)).collect(), groups.into_iter().flatten().copied().collect());
    assert_eq!(named, known, "each call is in one group here");

    let bed = Bed::start("each call", 0);
    let controller = &bed.controllers[0];
    let of = |member: &str, role| Client::new(controller, &bed.member(member, role));
    let revoked = of("node/h9", None);
    bed.sextant(&["node", "revoke", "h9"]);
    let files = bed.member("node/h1", None);
    let callers: [(&str, Client, &[&[&str]], Code); 7] = [
        ("nobody", Client::anonymous(controller, &files), &[ANYBODY], Code::Unauthenticated),
        ("a node", Client::new(controller, &files), &[NODE, MEMBER, ANYBODY], Code::PermissionDenied),
        (
            "another controller",
            of("controller/b", None),
            &[CONTROLLER, MEMBER, ANYBODY],
            Code::PermissionDenied,
        ),
        ("a viewer", of("admin/vic", None), &[VIEWER, MEMBER, ANYBODY], Code::PermissionDenied),
        (
            "an operator",
            of("admin/olga", Some("operator")),
            &[OPERATOR, VIEWER, MEMBER, ANYBODY],
            Code::PermissionDenied,
        ),
        ("a revoked node", revoked, &[], Code::PermissionDenied),
        (
            "an admin",
            of("admin/ada", Some("admin")),
            &[ADMIN, OPERATOR, VIEWER, MEMBER, ANYBODY],
            Code::PermissionDenied,
        ),
    ];
    for (caller, client, allowed, refused) in &callers {
        for path in &calls {
            // Not even what everybody may ask is answered to a revoked node.
            let mut may = allowed.iter().flat_map(|group| group.iter());
            let expected = (!may.any(|it| *it == name(path))).then_some(*refused);
            assert_eq!(refusal(client, path), expected, "{caller}: {path}");
        }
    }
}

/// A certificate that has ended, or is of another authority, gets no answer to any call.
#[test]
fn a_certificate_that_does_not_count_opens_no_call() {
    let bed = Bed::start("no call", 0);
    let dir = |name: &str| bed.dir(name);
    let foreign = Authority::new().member(&dir("foreign"), "spiffe://default/admin/eve", Some("admin"));
    foreign.trust(&[&bed.authority]);
    let ended = std::time::SystemTime::now() - 60 * SECONDS;
    let ended = bed.authority.member_until(&dir("ended"), "spiffe://default/admin/ann", Some("admin"), ended);
    for (what, files) in [("foreign", foreign), ("ended", ended)] {
        for path in calls() {
            let Ok(client) = Client::try_new(&bed.controllers[0], &files) else { continue };
            let mut grpc = Grpc::new(client.channel.clone());
            let asked: PathAndQuery = path.parse().unwrap();
            let answer = client.runtime.block_on(async move {
                grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                grpc.server_streaming::<_, _, Octets>(Request::new(Vec::new()), asked, Octets).await
            });
            let code = answer.map(|_| Code::Ok).unwrap_or_else(|status| status.code());
            let is_closed = matches!(code, Code::Unavailable | Code::Unknown | Code::Unauthenticated);
            assert!(is_closed, "{what}: {path}: {code}");
        }
    }
}
