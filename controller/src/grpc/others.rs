//! The other controllers over the same store: what their agents have applied, and how they are.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sextant_daemon::SharedDial;
use sextant_proto::{
    NodeName, Problem, Revision,
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
    Questions, Rooms,
    principal::principal,
    questions::{self, unanswered},
    show,
    status::malformed,
};
use crate::{
    acks::{Acks, Applied, Refresh},
    health::{CONTROLLERS_PATIENCE, Health},
    index::Index,
    records::{ControllerRecord, unix_ms},
    sessions::{Identity, Sessions},
};

/// How long another controller may take to answer; one that does not is shown without its acks.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is noted which controllers there are.
const NOTE: Duration = Duration::from_secs(1);
/// How often the others are asked while somebody waits.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// The other controllers.
#[derive(Clone)]
pub struct Others {
    index: Index,
    acks: Acks,
    me: Identity,
    dial: SharedDial,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// The nodes of which another agent tries to connect to one of them, as last asked.
    duplicates: Arc<Mutex<HashMap<NodeName, String>>>,
    /// Controllers by their id that the store lists, or has listed: one that is cut from the store is listed no longer.
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// A controller that was listed.
#[derive(Debug, Clone)]
struct Known {
    record: ControllerRecord,
    /// When it began not to answer; none while it does.
    silent_since_unix_ms: Option<u64>,
}

/// Another controller, and how it is.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) id: String,
    pub(super) record: ControllerRecord,
    pub(super) problems: Vec<Problem>,
    /// It gave no answer.
    pub(super) silent: bool,
}

/// What a controller says of itself and the agents that are connected to it.
#[derive(Default)]
struct Word {
    acks: Vec<(NodeName, Applied)>,
    duplicates: Vec<(NodeName, String)>,
    /// Empty from one of an older version.
    controller: String,
    problems: Vec<Problem>,
}

#[async_trait::async_trait]
impl Refresh for Others {
    async fn refresh(&self) -> bool {
        Self::refresh(self).await
    }
}

impl Others {
    /// The controllers besides `me` that `index` knows, reached by `dial`; what they say goes to `acks`.
    pub fn new(index: Index, acks: Acks, me: Identity, dial: SharedDial) -> Self {
        let (channels, duplicates, known) = (Arc::default(), Arc::default(), Arc::default());
        Self { index, acks, me, dial, channels, duplicates, known }
    }

    /// Notes for ever which controllers the store lists.
    ///
    /// # Errors
    /// None.
    pub async fn note(self) -> Result<(), Infallible> {
        loop {
            self.note_listed();
            tokio::time::sleep(NOTE).await;
        }
    }

    /// Asks all of them, and keeps what they say. Whether there are any.
    pub async fn refresh(&self) -> bool {
        let addresses = self.addresses();
        let answers = join_all(addresses.iter().map(|address| self.ask(address, false))).await;
        self.keep(answers.into_iter().flatten());
        !addresses.is_empty()
    }

    /// As [`Others::refresh`], and how each of them is: those that the store lists, and those that it listed and that answer.
    pub(super) async fn look(&self) -> Vec<Other> {
        let listed = self.note_listed();
        let known = self.known().clone();
        let answers = join_all(known.values().map(|it| self.ask(&it.record.address, true))).await;
        let (mut others, mut words) = (Vec::new(), Vec::new());
        for ((id, known), word) in known.into_iter().zip(answers) {
            let is_listed = listed.contains(&id);
            others.extend(self.judge(id, known, word.as_ref(), is_listed));
            words.extend(word);
        }
        self.keep(words.into_iter());
        others
    }

    /// What is said of a controller; nothing of one that is gone.
    fn judge(&self, id: String, it: Known, word: Option<&Word>, listed: bool) -> Option<Other> {
        // Another one runs at its address.
        let gone = word.is_some_and(|word| !word.controller.is_empty() && word.controller != id);
        if gone || (!listed && word.is_none()) {
            self.known().remove(&id);
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&it.record.address);
            return None;
        }
        let since = word.is_none().then(|| it.silent_since_unix_ms.unwrap_or_else(unix_ms));
        if let Some(known) = self.known().get_mut(&id) {
            known.silent_since_unix_ms = since;
        }
        let said = word.map(|word| word.problems.clone()).unwrap_or_default();
        let silence = since.map(|since| silence(&it.record.address, since));
        let problems = silence.into_iter().chain(said).collect();
        Some(Other { id, record: it.record, problems, silent: word.is_none() })
    }

    /// Notes the controllers that the store lists besides this one; their ids.
    fn note_listed(&self) -> Vec<String> {
        let listed: Vec<_> = self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me.id);
            others.map(|(id, controller)| (id.clone(), controller.record.clone())).collect()
        });
        let mut known = self.known();
        for (id, record) in &listed {
            // Nobody else can be reached at such an address; the record of a dead predecessor may stand there.
            let unspecified =
                record.address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified());
            let own = unspecified || record.address == self.me.address;
            if known.contains_key(id) || own {
                continue;
            }
            // It takes the place of those that are listed no longer.
            let replaced = |before: &str, it: &Known| {
                it.record.address == record.address && !listed.iter().any(|(id, _)| id == before)
            };
            known.retain(|before, it| !replaced(before, it));
            known.insert(id.clone(), Known { record: record.clone(), silent_since_unix_ms: None });
        }
        listed.into_iter().map(|(id, _)| id).collect()
    }

    fn keep(&self, words: impl Iterator<Item = Word>) {
        let (mut acks, mut duplicates) = (HashMap::new(), HashMap::new());
        for word in words {
            acks.extend(word.acks);
            duplicates.extend(word.duplicates);
        }
        self.acks.keep_remote(acks);
        *self.duplicates.lock().unwrap_or_else(PoisonError::into_inner) = duplicates;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where another agent of `node` tries to connect from, by the last word of the other controllers.
    pub(super) fn duplicate(&self, node: &NodeName) -> Option<String> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    fn addresses(&self) -> Vec<String> {
        self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me.id);
            others.map(|(_, controller)| controller.record.address.clone()).collect()
        })
    }

    /// What the controller at `address` says, with its own `state` if that is wanted.
    async fn ask(&self, address: &str, state: bool) -> Option<Word> {
        let mut client = ControllerServiceClient::new(self.channel(address)?);
        let patience = if state { PATIENCE + CONTROLLERS_PATIENCE } else { PATIENCE };
        let answer = tokio::time::timeout(patience, client.acks(v1::AcksRequest { state })).await;
        let Ok(Ok(response)) = answer else {
            tracing::debug!(address, "another controller does not answer");
            return None;
        };
        let v1::AcksResponse { by_node, duplicates, controller, problems } = response.into_inner();
        let readable =
            |(node, applied): (String, v1::Applied)| Some((node.parse().ok()?, applied.try_into().ok()?));
        let named = |(node, from): (String, String)| Some((node.parse().ok()?, from));
        Some(Word {
            acks: by_node.into_iter().filter_map(readable).collect(),
            duplicates: duplicates.into_iter().filter_map(named).collect(),
            controller,
            problems: problems.into_iter().map(Into::into).collect(),
        })
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

fn silence(address: &str, since_unix_ms: u64) -> Problem {
    Problem {
        what: "controller-silent".to_owned(),
        saw: format!("does not answer the asked controller at {address}"),
        fix: "start sextant-controller there, or restore the network between the two; the record of one that is gone \
              for good ends by itself"
            .to_owned(),
        since_unix_ms,
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
    health: Health,
}

impl Told {
    pub(super) fn new(rooms: &Rooms) -> Self {
        let Rooms { acks, questions, sessions, health, .. } = rooms.clone();
        Self { acks, questions, sessions, health }
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
        let problems = match request.get_ref().state {
            true => self.health.look(CONTROLLERS_PATIENCE).await.problems.iter().map(Into::into).collect(),
            false => Vec::new(),
        };
        let controller = self.sessions.identity().id.clone();
        Ok(Response::new(v1::AcksResponse { by_node, duplicates, controller, problems }))
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
