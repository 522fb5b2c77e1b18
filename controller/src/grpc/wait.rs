//! A wait until all live agents have applied a revision, with its progress.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream};
use sextant_proto::{NodeName, Revision, v1};
use tokio::time::Instant;
use tonic::Status;

use super::{Services, agent::names};
use crate::{acks::Changes, controllers::POLL};

/// So many nodes are named where all are absent.
const MOST_REPORTED: usize = 64;
/// A wait without a limit.
const UNLIMITED: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The progress, whenever it has changed.
pub(super) type Waiting = Pin<Box<dyn Stream<Item = Result<v1::WaitProgress, Status>> + Send>>;

/// The progress of what is asked for.
pub(super) async fn progress(services: &Services, asked: &v1::WaitRequest) -> Result<Waiting, Status> {
    let timeout = match asked.timeout_ms {
        0 => UNLIMITED,
        some => Duration::from_millis(some).min(UNLIMITED),
    };
    let deadline = Instant::now() + timeout;
    let revision = match asked.revision {
        0 => newest(services).await?,
        some => Revision(some),
    };
    let waiter =
        Waiter { services: services.clone(), changes: services.acks.watch(), revision, deadline, sent: None };
    Ok(Box::pin(stream::unfold(Some(waiter), |waiter| async move { waiter?.step().await })))
}

/// The last revision published to agents, after the index has reached the present revision of the store.
async fn newest(services: &Services) -> Result<Revision, Status> {
    let key = crate::registry::KeyRange::key(&services.keys.meta());
    let stored = services.registry.list(&key).await?.revision;
    services.index.reaches(stored, Duration::from_secs(5)).await;
    Ok(services.index.published())
}

struct Waiter {
    services: Services,
    changes: Changes,
    revision: Revision,
    deadline: Instant,
    sent: Option<v1::WaitProgress>,
}

type Step = (Result<v1::WaitProgress, Status>, Option<Waiter>);

impl Waiter {
    /// The next message with a change; the last one reports completion, or is sent at the deadline.
    async fn step(mut self) -> Option<Step> {
        loop {
            let others = self.services.others.refresh().await;
            let progress = self.progress();
            let (done, late) = (progress.done, Instant::now() >= self.deadline);
            if done || late {
                return Some((Ok(progress), None));
            }
            if self.sent.as_ref() != Some(&progress) {
                self.sent = Some(progress.clone());
                return Some((Ok(progress), Some(self)));
            }
            let poll = if others { Instant::now() + POLL } else { self.deadline };
            let _timed_out = tokio::time::timeout_at(poll.min(self.deadline), self.changes.next()).await;
        }
    }

    fn progress(&self) -> v1::WaitProgress {
        let progress = self.services.acks.progress(self.revision, None);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        v1::WaitProgress {
            revision: self.revision.0,
            applied: count(progress.applied),
            live: count(progress.live),
            // Nobody to wait for is no success: the agents may be about to connect, or wait for something on their hosts.
            done: progress.live > 0 && progress.laggards.is_empty(),
            laggards: if progress.live > 0 { names(&progress.laggards) } else { names(&self.not_ready()) },
        }
    }

    /// The nodes without a session.
    fn not_ready(&self) -> Vec<NodeName> {
        self.services.index.read(|state| {
            let without = state.peers().values().filter(|peer| !peer.session);
            without.map(|peer| peer.name.clone()).take(MOST_REPORTED).collect()
        })
    }
}
