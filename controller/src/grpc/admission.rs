//! Whether a new stream may replace the present one of a node.
//!
//! A run of an agent replaces its own stream at once. Another run is admitted only if the present one does not answer. Either the
//! agent was restarted and its old connection is half-open, or a second host has the same state directory; in that case the first
//! one keeps its stream. Agents without an instance id (older versions) are admitted at once.

use std::{net::SocketAddr, time::Duration};

use sextant_proto::{CLEAR_COPY, InstanceId, NodeName, convert, v1};
use tonic::Status;

use super::{Services, status::malformed, sync::keepalive_period};
use crate::sessions::Attachment;

/// The limits of the time that the present agent has to answer; the new one waits for it.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(3);
/// The number of attempts if streams of further runs arrive meanwhile.
const ATTEMPTS: u32 = 3;

/// Attaches the stream of this hello from the address `from`, or refuses it.
pub(super) async fn admit(
    services: &Services,
    node: &NodeName,
    hello: &v1::Hello,
    from: Option<SocketAddr>,
) -> Result<Attachment, Status> {
    let instance = (!hello.instance.is_empty()).then(|| convert::id("instance", &hello.instance));
    let instance: Option<InstanceId> = instance.transpose().map_err(malformed)?;
    let timeout = timeout(services);
    let refuse = |present: InstanceId| {
        refused(services, node, from);
        Err(duplicate(node, hello, present))
    };
    if let Some((controller, present)) = elsewhere(services, node, instance)
        && services.others.has_agent(&controller, node, timeout).await
    {
        return refuse(present);
    }
    for _ in 0..ATTEMPTS {
        let other = services.sessions.other_run(node, instance);
        if let Some(other) = other
            && answers_here(services, node, timeout).await
        {
            return refuse(other.instance());
        }
        if let Some(attachment) = services.sessions.attach(node, instance, other) {
            return Ok(attachment);
        }
    }
    Err(Status::unavailable(format!("other agents of node {node} keep connecting; try again")))
}

/// Whether an agent of `node` is connected to any controller, and answers.
pub(super) async fn has_agent(services: &Services, node: &NodeName) -> bool {
    let timeout = timeout(services);
    if answers_here(services, node, timeout).await {
        return true;
    }
    let me = &services.sessions.identity().id;
    let session = services.index.read(|state| Some(state.sessions().get(node)?.record.controller.clone()));
    match session.filter(|controller| controller != me) {
        Some(controller) => services.others.has_agent(&controller, node, timeout).await,
        None => false,
    }
}

/// Another agent with the id of `node`, at the address `from`, was refused because the connected one answers.
pub(super) fn refused(services: &Services, node: &NodeName, from: Option<SocketAddr>) {
    let from = from.map_or("an unknown address".to_owned(), |from| from.ip().to_string());
    services.sessions.refused(node, &from);
}

async fn answers_here(services: &Services, node: &NodeName, timeout: Duration) -> bool {
    let presence = v1::question::About::Presence(v1::PresenceQuestion {});
    services.questions.ask_within(timeout, node, presence).await.is_ok()
}

fn timeout(services: &Services) -> Duration {
    keepalive_period(services).clamp(MIN_TIMEOUT, MAX_TIMEOUT)
}

/// The controller and the instance id of a session that another run of the node's agent has with another controller.
fn elsewhere(
    services: &Services,
    node: &NodeName,
    instance: Option<InstanceId>,
) -> Option<(String, InstanceId)> {
    let (controller, present) = services.index.read(|state| {
        let session = &state.sessions().get(node)?.record;
        Some((session.controller.clone(), session.instance?))
    })?;
    let other = controller != services.sessions.identity().id && present != instance?;
    other.then_some((controller, present))
}

fn duplicate(node: &NodeName, hello: &v1::Hello, present: InstanceId) -> Status {
    let id = hello.node_id.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    Status::already_exists(format!(
        "node {node} (id {id}) is already connected from instance {present}, which answers; two hosts share one state \
         directory (a cloned disk?): on one of them {CLEAR_COPY}, and set another --node"
    ))
}
