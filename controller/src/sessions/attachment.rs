//! An agent's stream, from hello to end.

use std::time::Duration;

use sextant_proto::{InstanceId, NodeName};
use tokio::time::Instant;

use super::{
    Sessions,
    book::{StreamId, Superseded},
    taker::Taker,
};
use crate::registry::{LeaseId, Op, RegistryError};

/// An agent's stream, from hello to end.
pub struct Attachment {
    pub(super) sessions: Sessions,
    pub(super) node: NodeName,
    pub(super) instance: Option<InstanceId>,
    pub(super) stream: StreamId,
    pub(super) last_frame: Instant,
    pub(super) superseded: Superseded,
    pub(super) taker: Taker,
}

/// A session to be put into the store.
pub struct NewSession {
    /// The operation that puts it.
    pub op: Op,
    lease: LeaseId,
}

impl Attachment {
    /// The agent has sent a message.
    pub fn heard(&mut self) {
        self.last_frame = Instant::now();
    }

    /// What counts whether the agent takes what it gets.
    pub fn taker(&self) -> Taker {
        self.taker.clone()
    }

    /// The time since the agent's last message.
    pub fn silence(&self) -> Duration {
        self.last_frame.elapsed()
    }

    /// The agent has reported that it stops.
    pub fn stops(&self) {
        self.sessions.book().stops(&self.node, self.stream);
    }

    /// The operation that puts the agent's session into the store; `None` if it is there already.
    ///
    /// # Errors
    /// If the store has granted no lease.
    pub async fn session(&self) -> Result<Option<NewSession>, RegistryError> {
        let mut lease = self.sessions.shared.lease.subscribe();
        let lease = lease.wait_for(Option::is_some).await.ok().and_then(|lease| *lease);
        let lease = lease.ok_or_else(|| RegistryError::Unavailable("no lease yet; try again".into()))?;
        let stands = self.sessions.book().has_session(&self.node, lease);
        let op = || self.sessions.session_op(&self.node, lease, self.instance);
        Ok((!stands).then(|| NewSession { op: op(), lease }))
    }

    /// Puts the agent's session into the store in a transaction of its own, unless it is there already.
    ///
    /// # Errors
    /// If the store refuses it.
    pub async fn put_session(&self) -> Result<(), RegistryError> {
        match self.session().await? {
            Some(session) => self.sessions.put_session(&self.node, session.lease, self.instance).await,
            None => Ok(()),
        }
    }

    /// The session was put.
    pub fn session_put(&self, session: &NewSession) {
        self.sessions.book().session_put(&self.node, session.lease, self.instance);
    }

    /// Waits until a newer stream of the same node exists, or the node is lost; must not be called again after that. Cancel safe.
    pub async fn superseded(&mut self) {
        let _dropped = (&mut self.superseded).await;
    }

    /// Whether this stream is the node's newest.
    pub fn is_current(&self) -> bool {
        self.sessions.book().is_current(&self.node, self.stream)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.sessions.book().detach(&self.node, self.stream, self.last_frame);
    }
}
