//! Ends the sessions of agents that were lost or have stopped.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use sextant_daemon::{Failing, Outage};
use sextant_proto::NodeName;
use tokio::time::Instant;

use super::{Sessions, TICK, book::Going};
use crate::{
    audit::{Actor, What},
    claims::of_node,
    records::{NodeRecord, Record, unix_ms},
    registry::{Guard, Op, Outcome, RegistryError, Txn},
};

impl Sessions {
    /// Ends the sessions of the agents that were lost since the last call, and those that it could not end.
    pub(super) async fn end_lost(&self, outage: &mut Outage) {
        let lost = self.book().lost(Instant::now(), self.shared.down_after, looks(self.shared.down_after));
        lost.iter().for_each(|(node, going)| tell(node, *going));
        let to_end = self.book().unended(Instant::now()).into_iter().chain(lost);
        let end = async |(node, going)| (self.end_session(&node, going).await, node, going);
        let mut results = pin!(self.each(to_end, end));
        while let Some((ended, node, going)) = results.next().await {
            if let Err(error) = ended {
                // Until it is ended, the node is shown as up.
                if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                    tracing::warn!(%node, %error, failures, for_secs, "sessions of lost agents cannot be ended; retrying");
                }
                self.book().not_ended(node, going, Instant::now());
            }
        }
    }

    /// Ends the node's session if it still belongs to this controller.
    async fn end_session(&self, node: &NodeName, going: Going) -> Result<(), RegistryError> {
        let key = self.shared.keys.session(node);
        let Some(entry) = self.entry(&key).await? else { return Ok(()) };
        // Ending earlier sessions may have taken long: an agent that is back keeps its session, old or put again. An agent that
        // returns from here on puts it again, which makes the guard fail.
        if !self.is_mine(&entry) || self.book().is_back(node, entry.lease) {
            return Ok(());
        }
        let ended =
            Txn { guards: vec![Guard::Unchanged(key.clone(), entry.modified)], ops: vec![Op::Delete(key)] };
        let stop_record = match going {
            Going::Stopped => self.stopped(node).await?,
            Going::Lost | Going::Blocked => None,
        };
        if let Some((unchanged, ops)) = stop_record {
            let mut with_it = ended.clone();
            with_it.guards.push(unchanged);
            with_it.ops.extend(ops);
            if let Outcome::Committed(_) = self.shared.registry.commit(with_it).await? {
                return Ok(());
            }
        }
        self.shared.registry.commit(ended).await.map(|_| ())
    }

    /// The operation that records that the node's agent was stopped; none for a router, which has no record.
    async fn stopped(&self, node: &NodeName) -> Result<Option<(Guard, [Op; 2])>, RegistryError> {
        let key = self.shared.keys.node(node);
        let Some(entry) = self.entry(&key).await? else { return Ok(None) };
        let Ok(record) = NodeRecord::decode(&entry.value) else { return Ok(None) };
        let event = of_node(What::Stopped, node, &record);
        let stopped = NodeRecord { stopped_unix_ms: unix_ms(), ..record };
        let by = Actor::new(&format!("agent of {node}"));
        let ops = [Op::put(key.clone(), stopped.encode()), event.op(&self.shared.keys, &by)];
        Ok(Some((Guard::Unchanged(key, entry.modified), ops)))
    }
}

/// The looks within `down_after`.
fn looks(down_after: Duration) -> u32 {
    u32::try_from(down_after.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

/// Logs how an agent disconnected.
fn tell(node: &NodeName, going: Going) {
    match going {
        Going::Stopped => tracing::info!(%node, "agent stopped; its claim and its peers' routes stay"),
        Going::Lost => tracing::warn!(
            %node, "agent lost: no message for down_after; its claim and its peers' routes stay"
        ),
        Going::Blocked => tracing::warn!(
            %node, "agent lost: it has read no message for down_after; its claim and its peers' routes stay"
        ),
    }
}
