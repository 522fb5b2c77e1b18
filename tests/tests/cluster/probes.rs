//! Interfaces for monitoring and gRPC tools.

use sextant_tests::{ControllerOptions, SECONDS, poll};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::cluster::{Cluster, GUIDE};

#[test]
fn probes_and_metrics_are_served() {
    let cluster = Cluster::start("probes", 2, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    assert_eq!(controller.http("/healthz").unwrap(), (200, "ok\n".into()));
    assert_eq!(controller.http("/readyz").unwrap().0, 200);
    let reported = |text: &str, line: &str| text.lines().any(|it| it == line);
    let metrics = controller.http("/metrics").unwrap().1;
    assert!(
        reported(&metrics, "sextant_controller_claims 2")
            && reported(&metrics, "sextant_controller_sessions 2"),
        "{metrics}"
    );
    let agent = &cluster.agents[0];
    assert_eq!(agent.http("/readyz").unwrap().0, 200);
    poll("the agent's metrics", 5 * SECONDS, || {
        let metrics = agent.http("/metrics")?.1;
        let wanted = ["sextant_agent_connected 1", "sextant_agent_ready 1", "sextant_agent_peers 2"];
        let missing: Vec<_> = wanted.into_iter().filter(|line| !reported(&metrics, line)).collect();
        anyhow::ensure!(missing.is_empty(), "no {missing:?} in {metrics}");
        anyhow::Ok(())
    });
}

#[test]
fn a_waiting_agent_is_not_ready_and_reports_the_reason() {
    let mut cluster = Cluster::without_agents("not ready", 1, GUIDE);
    cluster.sextant(&["pool", "remove", "main"]);
    cluster.start_agent(0);
    poll("the probe says why", 10 * SECONDS, || {
        let (code, why) = cluster.agents[0].http("/readyz")?;
        anyhow::ensure!(code == 503 && why.contains("no host prefix is claimed yet"), "{code} {why}");
        anyhow::Ok(())
    });
    cluster.agents[0].process.wait_for_line("there is no pool; add one", 10 * SECONDS).unwrap();
}

#[test]
fn grpc_health_is_served_and_reflection_on_request() {
    let mut cluster = Cluster::without_agents("health", 0, GUIDE);
    assert!(matches!(described(&cluster), (ServingStatus::Serving, None)), "reflection is off");
    cluster.controller = None;
    let args = vec!["--reflection".to_owned()];
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    let (status, services) = described(&cluster);
    assert_eq!(status, ServingStatus::Serving);
    let Some(MessageResponse::ListServicesResponse(services)) = services else { panic!("{services:?}") };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(
        names.contains(&"sextant.v1.AgentService") && names.contains(&"sextant.v1.AdminService"),
        "{names:?}"
    );
}

/// The health of the agents' service, and the services by reflection, if that is served.
fn described(cluster: &Cluster) -> (ServingStatus, Option<MessageResponse>) {
    let url = cluster.controller.as_ref().unwrap().url();
    let ask = async {
        let channel = tonic::transport::Endpoint::try_from(url).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        let service = "sextant.v1.AgentService".to_owned();
        let status = health.check(HealthCheckRequest { service }).await.unwrap().into_inner().status();
        let mut reflection = ServerReflectionClient::new(channel);
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let services = match reflection.server_reflection_info(tokio_stream::once(list)).await {
            Ok(answers) => answers.into_inner().message().await.unwrap(),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
                None
            }
        };
        (status, services.and_then(|answer| answer.message_response))
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    cluster.lab.switch().enter(|| runtime().block_on(ask)).unwrap()
}
