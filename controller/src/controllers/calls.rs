//! Calls to the other controllers: the only file of this folder that uses `tonic`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_identity::SharedDial;
use sextant_proto::{
    Applied, NodeName, Problem,
    v1::{self, controller_service_client::ControllerServiceClient},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{health::CONTROLLER_TIMEOUT, questions, unregistered::Unregistered};

/// How long another controller may take to answer; without an answer, its acks are missing.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A controller's report of itself and its connected agents.
#[derive(Default)]
pub(super) struct Report {
    pub(super) acks: Vec<(NodeName, Applied)>,
    pub(super) duplicates: Vec<(NodeName, String)>,
    /// The id of the controller; empty from an older version.
    pub(super) controller: String,
    pub(super) problems: Vec<Problem>,
    pub(super) unregistered: Vec<Unregistered>,
}

/// The missing answer of an agent that is connected to another controller.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It did not answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// It could not answer.
    #[error("{0}")]
    Failed(String),
}

/// The connections to the other controllers.
#[derive(Clone)]
pub(super) struct Calls {
    dial: SharedDial,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Calls {
    /// Without connections yet.
    pub(super) fn new(dial: SharedDial) -> Self {
        Self { dial, channels: Arc::default() }
    }

    /// The report of the controller at `address`; with its problems if `state` is set.
    pub(super) async fn state(&self, address: &str, state: bool) -> Option<Report> {
        let mut client = ControllerServiceClient::new(self.channel(address)?);
        let timeout = if state { TIMEOUT + CONTROLLER_TIMEOUT } else { TIMEOUT };
        let answer = tokio::time::timeout(timeout, client.acks(v1::AcksRequest { state })).await;
        let Ok(Ok(response)) = answer else {
            tracing::debug!(address, "another controller does not answer");
            return None;
        };
        let v1::AcksResponse { by_node, duplicates, controller, problems, unregistered } =
            response.into_inner();
        let readable =
            |(node, applied): (String, v1::Applied)| Some((node.parse().ok()?, applied.try_into().ok()?));
        let named = |(node, from): (String, String)| Some((node.parse().ok()?, from));
        Some(Report {
            acks: by_node.into_iter().filter_map(readable).collect(),
            duplicates: duplicates.into_iter().filter_map(named).collect(),
            controller,
            problems: problems.into_iter().map(Into::into).collect(),
            unregistered: unregistered.into_iter().filter_map(|it| it.try_into().ok()).collect(),
        })
    }

    /// The answer of an agent that is connected to the controller at `address`; `None` if the agent is not connected there, or the
    /// controller does not answer.
    pub(super) async fn ask_agent(
        &self,
        address: &str,
        node: &NodeName,
        about: v1::question::About,
    ) -> Option<Result<v1::Answer, AskError>> {
        let question = Some(v1::Question { id: 0, about: Some(about) });
        let request = v1::AskRequest { node: node.to_string(), question };
        let mut client = ControllerServiceClient::new(self.channel(address)?);
        let answer =
            tokio::time::timeout(TIMEOUT + questions::ANSWER_TIMEOUT, client.ask(request)).await.ok()?;
        match answer {
            Ok(response) => response.into_inner().answer.map(Ok),
            Err(status) if status.code() == Code::DeadlineExceeded => {
                Some(Err(AskError::TimedOut(status.message().to_owned())))
            }
            Err(status) if status.code() == Code::Internal => {
                Some(Err(AskError::Failed(status.message().to_owned())))
            }
            Err(status) => {
                tracing::debug!(address, %status, "agent not connected to the other controller");
                None
            }
        }
    }

    /// Drops the connection to the controller at `address`.
    pub(super) fn forget(&self, address: &str) {
        self.channels().remove(address);
    }

    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels();
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::try_from(format!("http://{address}")).ok()?.connect_timeout(TIMEOUT);
        let channel = self.dial.dial_lazily(endpoint);
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
