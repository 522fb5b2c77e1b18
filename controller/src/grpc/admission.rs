//! Whether a new stream may take the place of the one that a node has.
//!
//! A run of an agent takes its own place at once. Another run is let in only if the present one does not answer: either the
//! agent was restarted and its old connection is half-open, or a second host has the same state directory, and then the first
//! one goes on. Agents before the instance id are let in at once.

use std::{net::SocketAddr, time::Duration};

use sextant_proto::{InstanceId, NodeName, convert, v1};
use tonic::Status;

use super::{Rooms, status::malformed, sync::keepalive_period};
use crate::sessions::Attachment;

/// How long the present agent has to answer, at least and at most: the newcomer waits for it.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(3);
/// How often streams of yet another run may come in between.
const ATTEMPTS: u32 = 3;

/// Attaches the stream of this hello, which comes from `from`, or says why not.
pub(super) async fn admit(
    rooms: &Rooms,
    node: &NodeName,
    hello: &v1::Hello,
    from: Option<SocketAddr>,
) -> Result<Attachment, Status> {
    let instance = (!hello.instance.is_empty()).then(|| convert::id("instance", &hello.instance));
    let instance: Option<InstanceId> = instance.transpose().map_err(malformed)?;
    let patience = keepalive_period(rooms).clamp(LEAST_PATIENCE, MOST_PATIENCE);
    let refuse = |present: InstanceId| {
        rooms
            .sessions
            .refused(node, &from.map_or("an unknown address".to_owned(), |from| from.ip().to_string()));
        Err(duplicate(node, hello, present))
    };
    if let Some((controller, present)) = elsewhere(rooms, node, instance)
        && rooms.others.has_agent(&controller, node, patience).await
    {
        return refuse(present);
    }
    for _ in 0..ATTEMPTS {
        let other = rooms.sessions.other_run(node, instance);
        if let Some(other) = other {
            let presence = v1::question::About::Presence(v1::PresenceQuestion {});
            if rooms.questions.ask_within(patience, node, presence).await.is_ok() {
                return refuse(other.instance());
            }
        }
        if let Some(attachment) = rooms.sessions.attach(node, instance, other) {
            return Ok(attachment);
        }
    }
    Err(Status::unavailable(format!("node {node} is connected anew by others all the time; try again")))
}

/// The other controller that has a session of another run of the node's agent, and which run.
fn elsewhere(rooms: &Rooms, node: &NodeName, instance: Option<InstanceId>) -> Option<(String, InstanceId)> {
    let (controller, present) = rooms.index.read(|state| {
        let session = &state.sessions().get(node)?.record;
        Some((session.controller.clone(), session.instance?))
    })?;
    let other = controller != rooms.sessions.identity().id && present != instance?;
    other.then_some((controller, present))
}

fn duplicate(node: &NodeName, hello: &v1::Hello, present: InstanceId) -> Status {
    let id = hello.node_id.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    Status::already_exists(format!(
        "node {node} (id {id}) is already connected from instance {present}, which answers; two hosts share one state \
         directory (a cloned disk?): on one of them stop sextant-agent, delete its state directory and give it another --node"
    ))
}
