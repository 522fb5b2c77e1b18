//! The other controllers over the same store: what their agents have applied, and how they are.

mod calls;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sextant_daemon::SharedDial;
use sextant_proto::{NodeName, Problem, v1};

use crate::{
    acks::{Acks, Refresh},
    index::Index,
    records::{ControllerRecord, unix_ms},
    sessions::Identity,
};

use calls::{Calls, Word};

pub use calls::AskError;

/// How often it is noted which controllers there are.
const NOTE: Duration = Duration::from_secs(1);
/// How often the others are asked while somebody waits.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// The other controllers.
#[derive(Clone)]
pub struct OtherControllers {
    index: Index,
    acks: Acks,
    me: Identity,
    calls: Calls,
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
pub(crate) struct Other {
    pub(crate) id: String,
    pub(crate) record: ControllerRecord,
    pub(crate) problems: Vec<Problem>,
    /// It gave no answer.
    pub(crate) silent: bool,
}

#[async_trait::async_trait]
impl Refresh for OtherControllers {
    async fn refresh(&self) -> bool {
        Self::refresh(self).await
    }
}

impl OtherControllers {
    /// The controllers besides `me` that `index` knows, reached by `dial`; what they say goes to `acks`.
    pub fn new(index: Index, acks: Acks, me: Identity, dial: SharedDial) -> Self {
        let (calls, duplicates, known) = (Calls::new(dial), Arc::default(), Arc::default());
        Self { index, acks, me, calls, duplicates, known }
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
        let answers = join_all(addresses.iter().map(|address| self.calls.state(address, false))).await;
        self.keep(answers.into_iter().flatten());
        !addresses.is_empty()
    }

    /// As [`OtherControllers::refresh`], and how each of them is: those that the store lists, and those that it listed and that answer.
    pub(crate) async fn look(&self) -> Vec<Other> {
        let listed = self.note_listed();
        let known = self.known().clone();
        let answers = join_all(known.values().map(|it| self.calls.state(&it.record.address, true))).await;
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
            self.calls.forget(&it.record.address);
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
    pub(crate) fn duplicate(&self, node: &NodeName) -> Option<String> {
        self.duplicates.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    fn addresses(&self) -> Vec<String> {
        self.index.read(|state| {
            let others = state.controllers().iter().filter(|(id, _)| **id != self.me.id);
            others.map(|(_, controller)| controller.record.address.clone()).collect()
        })
    }

    /// Has an agent answer that is connected to one of the others; `None` if it is to none that answers.
    pub(crate) async fn ask_agent(
        &self,
        node: &NodeName,
        about: v1::question::About,
    ) -> Option<Result<v1::Answer, AskError>> {
        let addresses = self.addresses();
        let asked = addresses.iter().map(|address| self.calls.ask_agent(address, node, about.clone()));
        let mut answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let first = answers.iter().position(Result::is_ok).unwrap_or_default();
        (!answers.is_empty()).then(|| answers.swap_remove(first))
    }

    /// Whether the agent of `node` answers the controller with this id within `patience`. One that does not answer itself says no.
    pub(crate) async fn has_agent(&self, controller: &str, node: &NodeName, patience: Duration) -> bool {
        let address = self.index.read(|state| {
            let found = state.controllers().iter().find(|(id, _)| id.as_str() == controller);
            found.map(|(_, controller)| controller.record.address.clone())
        });
        let Some(address) = address else { return false };
        let about = v1::question::About::Presence(v1::PresenceQuestion {});
        let answer = tokio::time::timeout(patience, self.calls.ask_agent(&address, node, about)).await;
        matches!(answer, Ok(Some(Ok(_))))
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
