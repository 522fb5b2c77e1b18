//! The one owner of the leases. Requests that wait are carried out together, and stored by one write, before they are answered.
//!
//! One task, [`Keeper::run`]: it ends with the last [`Handle`]. The store is written in a blocking thread.

use std::{fmt, sync::Arc};

use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    leases::{Doubts, Leases, Outcome, Space, Used},
    protocol::{LeaseRequest, address_answer, pool_answer, refused_answer, released_answer},
};

/// So many requests wait, and are carried out together.
const MOST_WAITING: usize = 64;

/// Where leases are stored.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Stores them for good.
    ///
    /// # Errors
    /// If they are not stored, with the reason and the fix.
    fn keep(&self, leases: &Leases) -> Result<(), String>;
}

/// What the keeper is asked.
#[derive(Debug)]
enum Message {
    /// A request of the engine.
    Request(LeaseRequest, oneshot::Sender<Value>),
    /// Where subnets come from now.
    Space(Space),
    /// What the engine has, with the number of releases before it was asked.
    Seen(Used, u64, oneshot::Sender<Option<Outcome>>),
    /// The number of releases.
    Releases(oneshot::Sender<u64>),
    /// The engine has ended.
    EngineEnded,
}

/// A connection to the keeper.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Message>);

/// The owner of the leases.
#[derive(Debug)]
pub struct Keeper {
    leases: Leases,
    doubts: Doubts,
    space: Space,
    store: Arc<dyn Store>,
    messages: mpsc::Receiver<Message>,
    releases: u64,
    began: Instant,
}

/// The keeper has ended.
#[derive(Debug, thiserror::Error)]
#[error("the agent ends; it is tried again")]
pub struct Ended;

impl Handle {
    /// Carries a request out. Returns the answer, whose lease is stored.
    ///
    /// # Errors
    /// If the keeper has ended.
    pub async fn request(&self, request: LeaseRequest) -> Result<Value, Ended> {
        self.ask(|reply| Message::Request(request, reply)).await
    }

    /// Subnets come from here from now on.
    ///
    /// # Errors
    /// If the keeper has ended.
    pub async fn set_space(&self, space: Space) -> Result<(), Ended> {
        self.0.send(Message::Space(space)).await.map_err(|_| Ended)
    }

    /// The engine has ended: it needs none of the answers that it did not get.
    ///
    /// # Errors
    /// If the keeper has ended.
    pub async fn engine_ended(&self) -> Result<(), Ended> {
        self.0.send(Message::EngineEnded).await.map_err(|_| Ended)
    }

    /// The number of releases until now, for [`Self::seen`].
    ///
    /// # Errors
    /// If the keeper has ended.
    pub async fn releases(&self) -> Result<u64, Ended> {
        self.ask(Message::Releases).await
    }

    /// The engine has these subnets and addresses. It was asked after so many `releases`; if others have come since, what it said may
    /// be out of date: nothing is done, and `None` is returned.
    ///
    /// # Errors
    /// If the keeper has ended.
    pub async fn seen(&self, used: Used, releases: u64) -> Result<Option<Outcome>, Ended> {
        self.ask(|reply| Message::Seen(used, releases, reply)).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.0.send(message(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}

/// Sends an answer.
type Reply = Box<dyn FnOnce(Result<(), &str>) + Send>;

impl Keeper {
    /// With the stored leases.
    pub fn new(leases: Leases, space: Space, store: Arc<dyn Store>) -> (Self, Handle) {
        let (sender, messages) = mpsc::channel(MOST_WAITING);
        let doubts = Doubts::default();
        let keeper = Self { leases, doubts, space, store, messages, releases: 0, began: Instant::now() };
        (keeper, Handle(sender))
    }

    /// Keeps the leases until nobody asks any more.
    ///
    /// # Errors
    /// Then.
    pub async fn run(mut self) -> Result<(), Ended> {
        let mut waiting = Vec::new();
        while self.messages.recv_many(&mut waiting, MOST_WAITING).await > 0 {
            let before = self.leases.clone();
            let replies: Vec<_> = waiting.drain(..).filter_map(|message| self.take(message)).collect();
            let stored = self.store(&before).await;
            if let Err(error) = &stored {
                tracing::warn!(%error, "leases cannot be stored; requests are refused");
                self.leases = before;
            }
            let stored = stored.as_ref().copied().map_err(String::as_str);
            replies.into_iter().for_each(|reply| reply(stored));
        }
        Err(Ended)
    }

    async fn store(&self, before: &Leases) -> Result<(), String> {
        if self.leases == *before {
            return Ok(());
        }
        let (store, leases) = (self.store.clone(), self.leases.clone());
        let done = tokio::task::spawn_blocking(move || store.keep(&leases)).await;
        done.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn take(&mut self, message: Message) -> Option<Reply> {
        match message {
            Message::Request(request, reply) => {
                let answer = self.carry_out(request);
                Some(Box::new(move |stored| {
                    let refused = |error: &str| refused_answer(&format!("leases cannot be stored: {error}"));
                    let _engine_gone = reply.send(stored.map_or_else(refused, |()| answer));
                }))
            }
            Message::Space(space) => {
                self.space = space;
                None
            }
            Message::Seen(used, releases, reply) => {
                let outcome = self.reconcile(&used, releases);
                Some(Box::new(move |stored| {
                    let unchanged = |_| Some(Outcome::default());
                    let _observer_gone = reply.send(stored.map_or_else(unchanged, |()| outcome));
                }))
            }
            Message::Releases(reply) => {
                let _observer_gone = reply.send(self.releases);
                None
            }
            Message::EngineEnded => {
                self.doubts.engine_ended(&self.leases);
                None
            }
        }
    }

    fn reconcile(&mut self, used: &Used, releases: u64) -> Option<Outcome> {
        let up_to_date = releases == self.releases;
        up_to_date.then(|| self.doubts.reconcile(&mut self.leases, used, self.began.elapsed()))
    }

    fn carry_out(&mut self, request: LeaseRequest) -> Value {
        match request {
            LeaseRequest::Pool(asked) => match self.leases.request_pool(&asked, &self.space) {
                Ok((id, subnet)) => pool_answer(&id, subnet),
                Err(error) => refused_answer(&error),
            },
            LeaseRequest::ReleasePool(id) => {
                self.releases += 1;
                self.leases.release_pool(&id);
                released_answer()
            }
            LeaseRequest::Address { pool, address, gateway } => {
                match self.leases.request_address(&pool, address, gateway) {
                    Ok((address, subnet)) => {
                        self.doubts.asked(subnet, address);
                        address_answer(address, subnet)
                    }
                    Err(error) => refused_answer(&error),
                }
            }
            LeaseRequest::ReleaseAddress { pool, address } => {
                self.releases += 1;
                self.leases.release_address(&pool, address);
                released_answer()
            }
        }
    }
}

#[cfg(test)]
mod tests;
