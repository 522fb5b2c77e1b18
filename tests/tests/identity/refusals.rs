//! Refused calls are in the audit, however many there are.

use futures::{StreamExt, stream};
use serde_json::Value;
use sextant_proto::{
    NodeId,
    v1::{
        ClaimRequest, StatusRequest, admin_service_client::AdminServiceClient,
        agent_service_client::AgentServiceClient,
    },
};
use sextant_tests::{SECONDS, poll};
use tonic::Code;

use crate::{authority::Authority, bed::Bed, client::Client};

/// The calls of each kind.
const CALLS: usize = 6_000;

#[test]
fn a_flood_of_refused_calls_makes_few_entries_and_washes_nothing_out() {
    let bed = Bed::start_with("refused flood", 0, &["--audit-entries", "100"]);
    let node = Client::new(&bed.controllers[0], &bed.member("node/h1", None));
    let admin = AdminServiceClient::new(node.channel.clone());
    let agent = AgentServiceClient::new(node.channel.clone());
    let status = |_| {
        let mut client = admin.clone();
        async move { client.status(StatusRequest {}).await.map(|_| ()) }
    };
    let claim = |number: usize| {
        let (mut client, node) = (agent.clone(), format!("h{}", number + 2));
        let request = ClaimRequest { node, node_id: NodeId::random().into(), ..ClaimRequest::default() };
        async move { client.claim(request).await.map(|_| ()) }
    };
    node.runtime.block_on(async {
        let answers = stream::iter(0..CALLS).map(status).buffer_unordered(64).collect::<Vec<_>>().await;
        let more = stream::iter(0..CALLS).map(claim).buffer_unordered(64).collect::<Vec<_>>().await;
        for answer in answers.into_iter().chain(more) {
            let status = answer.unwrap_err();
            assert!(matches!(status.code(), Code::PermissionDenied | Code::ResourceExhausted), "{status:?}");
        }
    });
    let refused = poll("both kinds are in the audit", 10 * SECONDS, || {
        let events: Value = serde_json::from_str(&bed.sextant(&["-o", "json", "events"])).unwrap();
        let events = events.as_array().unwrap().clone();
        assert!(events.len() < 50, "{} entries", events.len());
        assert!(events.iter().any(|event| event["what"] == "pool added"), "{events:?}");
        let refused: Vec<Value> = events.into_iter().filter(|it| it["what"] == "call refused").collect();
        let has = |call: &str| refused.iter().any(|it| it["detail"].as_str().unwrap().starts_with(call));
        if has("AdminService/Status: ") && has("AgentService/Claim: ") {
            Ok(refused)
        } else {
            Err(format!("{refused:?}"))
        }
    });
    for event in &refused {
        assert!(event["by"].as_str().unwrap().starts_with("node h1 at "), "{event}");
        assert_eq!(event["node"], "h1", "{event}");
    }
    let of_h1 = bed.sextant(&["events", "--node", "h1"]);
    assert!(of_h1.contains("node h1 may not call AdminService/Status: it is for people"), "{of_h1}");
    let (_, metrics) = bed.controllers[0].metrics("text/plain").unwrap();
    let line = metrics.lines().find(|line| line.starts_with("sextant_controller_calls_refused ")).unwrap();
    let counted: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(counted >= 2.0, "{line}");
}

#[test]
fn a_certificate_of_another_authority_and_one_without_the_role_are_in_the_audit() {
    let bed = Bed::start("refused certificates", 0);
    let foreign = Authority::new().member(&bed.dir("foreign"), "spiffe://default/admin/eve", Some("admin"));
    foreign.trust(&[&bed.authority]);
    assert_ne!(bed.cli(&foreign, &["status"]).code, 0);
    let viewer = bed.member("admin/vic", None);
    assert_eq!(bed.cli(&viewer, &["pause"]).code, 1);
    let expected = [
        ("nobody at ", "TLS handshake: the certificate is not accepted: "),
        ("admin vic at ", "AdminService/Pause: admin vic (role viewer) may not call"),
    ];
    poll("both refusals are in the audit", 10 * SECONDS, || {
        let events: Value = serde_json::from_str(&bed.sextant(&["-o", "json", "events"])).unwrap();
        let has = |(by, detail): (&str, &str)| {
            let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let is = |event: &Value| {
                text(event, "by").starts_with(by) && text(event, "detail").starts_with(detail)
            };
            events.as_array().unwrap().iter().any(|event| event["what"] == "call refused" && is(event))
        };
        if expected.into_iter().all(has) { Ok(()) } else { Err(events.to_string()) }
    });
}
