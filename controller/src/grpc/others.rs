//! The other controllers over the same store: what their agents have applied.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sextant_proto::{
    NodeName, Revision, SharedDial,
    convert::{self, MessageError},
    v1::{
        self, controller_service_client::ControllerServiceClient,
        controller_service_server::ControllerService,
    },
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use super::{
    Questions,
    principal::principal,
    questions::{self, unanswered},
    show,
    status::malformed,
};
use crate::{
    acks::{Acks, Applied},
    index::Index,
    sessions::Sessions,
};

/// How long another controller may take to answer; one that does not is shown without its acks.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the others are asked while somebody waits.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// The other controllers.
#[derive(Clone)]
pub struct Others {
    index: Index,
    acks: Acks,
    me: String,
    dial: SharedDial,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// The nodes of which another agent tries to connect to one of them, as last asked.
    duplicates: Arc<Mutex<HashMap<NodeName, String>>>,
}

/// What a controller says of the agents that are connected to it.
#[derive(Default)]
struct Word {
    acks: Vec<(NodeName, Applied)>,
    duplicates: Vec<(NodeName, String)>,
}

impl Others {
    /// The controllers besides `me` that `index` knows, reached by `dial`; what they say goes to `acks`.
    pub fn new(index: Index, acks: Acks, me: String, dial: SharedDial) -> Self {
        Self { index, acks, me, dial, channels: Arc::default(), duplicates: Arc::default() }
    }

    /// Asks all of them, and keeps what they say. Whether there are any.
    pub async fn refresh(&self) -> bool {
        let addresses = self.addresses();
        let answers = join_all(addresses.iter().map(|address| self.ask(address))).await;
        let (mut acks, mut duplicates) = (HashMap::new(), HashMap::new());
        for word in answers {
            acks.extend(word.acks);
            duplicates.extend(word.duplicates);
        }
        self.acks.keep_remote(acks);
        *self.duplicates.lock().unwrap_or_else(PoisonError::into_inner) = duplicates;
        !addresses.is_empty()
    }

    /// Where another agent of `node` tries to connect from, by the last word of the other controllers.
    pub(super) fn duplicate(&self, node: &NodeName) -> Option<String> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    fn addresses(&self) -> Vec<String> {
        self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me);
            others.map(|(_, controller)| controller.record.address.clone()).collect()
        })
    }

    async fn ask(&self, address: &str) -> Word {
        let Some(channel) = self.channel(address) else { return Word::default() };
        let mut client = ControllerServiceClient::new(channel);
        let answer = tokio::time::timeout(PATIENCE, client.acks(v1::AcksRequest {})).await;
        let Ok(Ok(response)) = answer else {
            tracing::debug!(address, "another controller does not answer");
            return Word::default();
        };
        let v1::AcksResponse { by_node, duplicates } = response.into_inner();
        let readable =
            |(node, applied): (String, v1::Applied)| Some((node.parse().ok()?, applied.try_into().ok()?));
        let named = |(node, from): (String, String)| Some((node.parse().ok()?, from));
        Word {
            acks: by_node.into_iter().filter_map(readable).collect(),
            duplicates: duplicates.into_iter().filter_map(named).collect(),
        }
    }

    /// Has an agent answer that is connected to one of the others; `None` if it is to none that answers.
    pub(super) async fn ask_agent(
        &self,
        node: &NodeName,
        about: v1::question::About,
    ) -> Option<Result<v1::Answer, Status>> {
        let question = v1::Question { id: 0, about: Some(about) };
        let request = v1::AskRequest { node: node.to_string(), question: Some(question) };
        let addresses = self.addresses();
        let asked = addresses.iter().map(|address| self.pass_on(address, request.clone()));
        let mut answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let first = answers.iter().position(Result::is_ok).unwrap_or_default();
        (!answers.is_empty()).then(|| answers.swap_remove(first))
    }

    /// Whether the agent of `node` answers the controller with this id within `patience`. One that does not answer itself says no.
    pub(super) async fn has_agent(&self, controller: &str, node: &NodeName, patience: Duration) -> bool {
        let address = self.index.read(|state| {
            let found = state.controllers().iter().find(|(id, _)| id.as_str() == controller);
            found.map(|(_, controller)| controller.record.address.clone())
        });
        let Some(address) = address else { return false };
        let about = v1::question::About::Presence(v1::PresenceQuestion {});
        let question = Some(v1::Question { id: 0, about: Some(about) });
        let request = v1::AskRequest { node: node.to_string(), question };
        let answer = tokio::time::timeout(patience, self.pass_on(&address, request)).await;
        matches!(answer, Ok(Some(Ok(_))))
    }

    /// `None` from one that does not have the agent, or does not answer.
    async fn pass_on(&self, address: &str, request: v1::AskRequest) -> Option<Result<v1::Answer, Status>> {
        let mut client = ControllerServiceClient::new(self.channel(address)?);
        let answer = tokio::time::timeout(PATIENCE + questions::PATIENCE, client.ask(request)).await.ok()?;
        match answer {
            Ok(response) => response.into_inner().answer.map(Ok),
            Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Internal) => {
                Some(Err(status))
            }
            Err(status) => {
                tracing::debug!(address, %status, "another controller does not have the agent");
                None
            }
        }
    }

    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::try_from(format!("http://{address}")).ok()?.connect_timeout(PATIENCE);
        let channel = self.dial.dial_lazily(endpoint);
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}

impl TryFrom<v1::Applied> for Applied {
    type Error = MessageError;

    fn try_from(message: v1::Applied) -> Result<Self, MessageError> {
        Ok(Self {
            // All controllers know these from the store.
            verdicts: Vec::new(),
            revision: Revision(message.revision),
            failed: convert::all("failed", message.failed)?,
            conflicts: convert::all("conflicts", message.conflicts)?,
            held: message.held,
            bgp: convert::all("bgp", message.bgp)?,
            problems: message.problems.into_iter().map(Into::into).collect(),
            version: message.version,
        })
    }
}

/// What this controller tells the others.
pub(super) struct Told {
    acks: Acks,
    questions: Questions,
    sessions: Sessions,
}

impl Told {
    pub(super) fn new(acks: Acks, questions: Questions, sessions: Sessions) -> Self {
        Self { acks, questions, sessions }
    }
}

#[tonic::async_trait]
impl ControllerService for Told {
    async fn acks(&self, request: Request<v1::AcksRequest>) -> Result<Response<v1::AcksResponse>, Status> {
        principal(request.extensions())?.may_administer()?;
        let local = self.acks.local();
        let by_node = local.into_iter().map(|(node, ack)| (node.to_string(), show::applied(ack))).collect();
        let duplicates = self.sessions.duplicates().into_iter();
        let duplicates = duplicates.map(|(node, from)| (node.to_string(), from)).collect();
        Ok(Response::new(v1::AcksResponse { by_node, duplicates }))
    }

    async fn ask(&self, request: Request<v1::AskRequest>) -> Result<Response<v1::AskResponse>, Status> {
        principal(request.extensions())?.may_administer()?;
        let v1::AskRequest { node, question } = request.into_inner();
        let node: NodeName = convert::parse("node", &node).map_err(malformed)?;
        let about = question.and_then(|question| question.about);
        let about =
            about.ok_or_else(|| Status::unimplemented("this controller does not know the question"))?;
        let answer = self.questions.ask(&node, about).await;
        Ok(Response::new(v1::AskResponse { answer: Some(answer.map_err(|why| unanswered(&node, why))?) }))
    }
}
