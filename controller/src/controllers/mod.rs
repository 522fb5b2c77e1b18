//! The other controllers on the same store: the acks of their agents, and their problems.

mod addresses;
mod calls;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sextant_identity::SharedDial;
use sextant_proto::{NodeName, Problem, v1};
use tokio::sync::watch;

use crate::{
    acks::{Acks, Refresh},
    index::Index,
    records::{ControllerRecord, unix_ms},
    sessions::Identity,
    unregistered::Unregistered,
};

use calls::{Calls, Report};

pub use addresses::{Reached, urls};
pub use calls::AskError;

/// How often the list of controllers is read.
const LIST: Duration = Duration::from_secs(1);
/// How often the others are queried while a caller waits.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// The other controllers.
#[derive(Clone)]
pub struct OtherControllers {
    index: Index,
    acks: Acks,
    me: Identity,
    calls: Calls,
    /// Duplicate node ids by the last reports: nodes with the addresses of their refused agents.
    duplicates: Arc<Mutex<HashMap<NodeName, String>>>,
    /// Claims of a lost store that they refused to register, by the last reports.
    unregistered: Arc<Mutex<Vec<Unregistered>>>,
    /// Controllers by id that the store lists or has listed: a controller without its store is no longer listed.
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    /// Where all controllers are reached.
    reached: watch::Sender<Arc<Vec<Reached>>>,
}

/// A controller that was listed.
#[derive(Debug, Clone)]
struct Known {
    record: ControllerRecord,
    /// When it stopped answering; none while it answers.
    silent_since_unix_ms: Option<u64>,
}

/// The state of another controller.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) id: String,
    pub(crate) record: ControllerRecord,
    pub(crate) problems: Vec<Problem>,
    /// It does not answer.
    pub(crate) silent: bool,
}

#[async_trait::async_trait]
impl Refresh for OtherControllers {
    async fn refresh(&self) -> bool {
        Self::refresh(self).await
    }
}

impl OtherControllers {
    /// The controllers in `index` except `me`, reached by `dial`; the acks that they report go to `acks`.
    pub fn new(index: Index, acks: Acks, me: Identity, dial: SharedDial) -> Self {
        let (calls, duplicates, known) = (Calls::new(dial), Arc::default(), Arc::default());
        let reached = watch::Sender::new(Arc::default());
        Self { index, acks, me, calls, duplicates, unregistered: Arc::default(), known, reached }
    }

    /// Follows the list of controllers in the store; never ends.
    ///
    /// # Errors
    /// None.
    pub async fn follow(self) -> Result<(), Infallible> {
        loop {
            self.update_known();
            self.update_reached();
            tokio::time::sleep(LIST).await;
        }
    }

    /// Where all controllers are reached, and its changes.
    pub(crate) fn reached(&self) -> watch::Receiver<Arc<Vec<Reached>>> {
        self.reached.subscribe()
    }

    fn update_reached(&self) {
        let now = self.index.read(|state| addresses::of(state, &self.me));
        self.reached.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                *before = Arc::new(now);
            }
            changed
        });
    }

    /// Queries all of them, and stores their reports. Returns whether there are any.
    pub async fn refresh(&self) -> bool {
        let addresses = self.addresses();
        let answers = join_all(addresses.iter().map(|address| self.calls.state(address, false))).await;
        self.keep(answers.into_iter().flatten());
        !addresses.is_empty()
    }

    /// As [`OtherControllers::refresh`], with the state of each controller: those that the store lists, and those that it listed
    /// before and that still answer.
    pub(crate) async fn states(&self) -> Vec<Other> {
        let listed = self.update_known();
        let known = self.known().clone();
        let answers = join_all(known.values().map(|it| self.calls.state(&it.record.address, true))).await;
        let (mut others, mut reports) = (Vec::new(), Vec::new());
        for ((id, known), report) in known.into_iter().zip(answers) {
            let is_listed = listed.contains(&id);
            others.extend(self.judge(id, known, report.as_ref(), is_listed));
            reports.extend(report);
        }
        self.keep(reports.into_iter());
        others
    }

    /// The state of a controller; `None` if it is gone.
    fn judge(&self, id: String, it: Known, report: Option<&Report>, listed: bool) -> Option<Other> {
        // Another one runs at its address.
        let gone = report.is_some_and(|report| !report.controller.is_empty() && report.controller != id);
        if gone || (!listed && report.is_none()) {
            self.known().remove(&id);
            self.calls.forget(&it.record.address);
            return None;
        }
        let since = report.is_none().then(|| it.silent_since_unix_ms.unwrap_or_else(unix_ms));
        if let Some(known) = self.known().get_mut(&id) {
            known.silent_since_unix_ms = since;
        }
        let reported = report.map(|report| report.problems.clone()).unwrap_or_default();
        let silence = since.map(|since| silence(&it.record.address, since));
        let problems = silence.into_iter().chain(reported).collect();
        Some(Other { id, record: it.record, problems, silent: report.is_none() })
    }

    /// Adds the other controllers that the store lists to the known ones; returns their ids.
    fn update_known(&self) -> Vec<String> {
        let listed: Vec<_> = self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me.id);
            others.map(|(id, controller)| (id.clone(), controller.record.clone())).collect()
        });
        let mut known = self.known();
        for (id, record) in &listed {
            // No other host can be reached at an unspecified address; the record may be that of a dead predecessor.
            let unspecified =
                record.address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified());
            let own = unspecified || record.address == self.me.address;
            if known.contains_key(id) || own {
                continue;
            }
            // It replaces controllers at its address that are no longer listed.
            let replaced = |before: &str, it: &Known| {
                it.record.address == record.address && !listed.iter().any(|(id, _)| id == before)
            };
            known.retain(|before, it| !replaced(before, it));
            known.insert(id.clone(), Known { record: record.clone(), silent_since_unix_ms: None });
        }
        listed.into_iter().map(|(id, _)| id).collect()
    }

    fn keep(&self, reports: impl Iterator<Item = Report>) {
        let (mut acks, mut duplicates, mut unregistered) = (HashMap::new(), HashMap::new(), Vec::new());
        for report in reports {
            acks.extend(report.acks);
            duplicates.extend(report.duplicates);
            unregistered.extend(report.unregistered);
        }
        *self.unregistered.lock().unwrap_or_else(PoisonError::into_inner) = unregistered;
        self.acks.keep_remote(acks);
        *self.duplicates.lock().unwrap_or_else(PoisonError::into_inner) = duplicates;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a refused agent with the node id of `node`, by the last reports of the other controllers.
    pub(crate) fn duplicate(&self, node: &NodeName) -> Option<String> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// The claims of a lost store that the other controllers refused to register, by their last reports.
    pub(crate) fn unregistered(&self) -> Vec<Unregistered> {
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn addresses(&self) -> Vec<String> {
        self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me.id);
            others.map(|(_, controller)| controller.record.address.clone()).collect()
        })
    }

    /// The answer of an agent that is connected to another controller; `None` if none of them has it.
    pub(crate) async fn ask_agent(
        &self,
        node: &NodeName,
        about: v1::question::About,
    ) -> Option<Result<v1::Answer, AskError>> {
        let addresses = self.addresses();
        let calls = addresses.iter().map(|address| self.calls.ask_agent(address, node, about.clone()));
        let mut answers: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        let first = answers.iter().position(Result::is_ok).unwrap_or_default();
        (!answers.is_empty()).then(|| answers.swap_remove(first))
    }

    /// Whether the agent of `node` answers the controller with this id within `timeout`; false if that controller does not answer.
    pub(crate) async fn has_agent(&self, controller: &str, node: &NodeName, timeout: Duration) -> bool {
        let address = self.index.read(|state| {
            let found = state.controllers().iter().find(|(id, _)| id.as_str() == controller);
            found.map(|(_, controller)| controller.record.address.clone())
        });
        let Some(address) = address else { return false };
        let about = v1::question::About::Presence(v1::PresenceQuestion {});
        let answer = tokio::time::timeout(timeout, self.calls.ask_agent(&address, node, about)).await;
        matches!(answer, Ok(Some(Ok(_))))
    }
}

fn silence(address: &str, since_unix_ms: u64) -> Problem {
    Problem {
        what: "controller-silent".to_owned(),
        saw: format!("does not answer the queried controller at {address}"),
        fix: "start sextant-controller there, or restore the network between the two; the record of a removed controller \
              expires"
            .to_owned(),
        since_unix_ms,
    }
}
