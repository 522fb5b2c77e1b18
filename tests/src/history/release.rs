//! The release of a claim without an agent: announced, drained, released (DESIGN §5).

use std::time::{Duration, Instant};

use sextant_proto::{
    Claim, NodeId, NodeName, Revision, VERSION,
    v1::{
        self, admin_service_client::AdminServiceClient, agent_message::Message,
        agent_service_client::AgentServiceClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use super::Answer;

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The interval between retries of a step that is too early.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A node with its claim, and the controller that it uses.
pub(super) struct Holder {
    pub(super) channel: Channel,
    pub(super) node: NodeName,
    pub(super) node_id: NodeId,
    pub(super) claim: Claim,
}

impl Holder {
    /// The node leaves.
    pub(super) async fn leaves(self) -> Answer {
        match tokio::time::timeout(3 * TIMEOUT, self.leave()).await {
            Ok(Ok(revision)) => Answer::Ended(Some(Revision(revision))),
            Ok(Err(status)) => Answer::Unknown(status.to_string()),
            Err(_) => Answer::Unknown("no answer".into()),
        }
    }

    async fn leave(self) -> Result<u64, Status> {
        let (said, says) = mpsc::channel(4);
        let mut agent = AgentServiceClient::new(self.channel.clone());
        let admin = AdminServiceClient::new(self.channel.clone());
        say(&said, self.hello()).await?;
        let stream = agent.sync(ReceiverStream::new(says)).await?.into_inner();
        say(&said, Message::Announce(v1::Announce::default())).await?;
        let drain = v1::DrainNodeRequest { name: self.node.to_string(), timeout_ms: 1000 };
        retry(|| {
            let (mut admin, drain) = (admin.clone(), drain.clone());
            async move { admin.drain_node(drain).await }
        })
        .await?;
        say(&said, Message::Drained(v1::Drained::default())).await?;
        let release = v1::ReleaseRequest {
            node: self.node.to_string(),
            node_id: self.node_id.into(),
            epoch: Some(self.claim.epoch.into()),
        };
        let released = retry(|| {
            let (mut agent, release) = (agent.clone(), release.clone());
            async move { agent.release(release).await }
        });
        let revision = released.await?.into_inner().revision;
        drop(stream);
        Ok(revision)
    }

    fn hello(&self) -> Message {
        Message::Hello(v1::Hello {
            node: self.node.to_string(),
            node_id: self.node_id.into(),
            epoch: Some(self.claim.epoch.into()),
            version: VERSION.into(),
            ..v1::Hello::default()
        })
    }
}

async fn say(said: &mpsc::Sender<v1::AgentMessage>, message: Message) -> Result<(), Status> {
    let sent = said.send(v1::AgentMessage { message: Some(message) }).await;
    sent.map_err(|_| Status::unavailable("the stream has ended"))
}

/// Tries again while the node is not yet in the state for it.
async fn retry<T, F>(mut step: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let end = Instant::now() + TIMEOUT;
    loop {
        match step().await {
            Err(status) if status.code() == Code::FailedPrecondition && Instant::now() < end => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            outcome => return outcome,
        }
    }
}
