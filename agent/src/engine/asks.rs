//! The questions that other tasks ask the engine, and how their answers return.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Prefix};
use tokio::sync::{mpsc, oneshot};

use super::{Arriving, Engine, Preview, TakenPackets, Towards};
use crate::kernel::KernelError;

/// What the engine is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Preview(Reply<Preview>),
    Towards(NodeName, Ipv6Addr, Reply<Towards>),
    Arriving(Prefix, Arriving, Reply<Vec<TakenPackets>>),
}

type Reply<T> = oneshot::Sender<Result<T, KernelError>>;

/// Asks the engine for its decisions on a destination, and for its pending changes.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Ask>);

impl Asker {
    /// What the next pass would change, from a fresh dump. `None` if the engine has ended.
    ///
    /// # Errors
    /// If the kernel's answer breaks off.
    pub async fn preview(&self) -> Option<Result<Preview, KernelError>> {
        self.ask(Ask::Preview).await
    }

    /// What it has in mind for the node's prefix that `target` is in. `None` if the engine has ended.
    ///
    /// # Errors
    /// If the kernel's answer breaks off.
    pub async fn towards(&self, node: NodeName, target: Ipv6Addr) -> Option<Result<Towards, KernelError>> {
        self.ask(|reply| Ask::Towards(node, target, reply)).await
    }

    /// The rules that take packets which arrive from another node, of those to this host prefix. `None` if the engine has ended.
    ///
    /// # Errors
    /// None.
    pub(crate) async fn arriving(
        &self,
        own: Prefix,
        packets: Arriving,
    ) -> Option<Result<Vec<TakenPackets>, KernelError>> {
        self.ask(|reply| Ask::Arriving(own, packets, reply)).await
    }

    async fn ask<T>(&self, about: impl FnOnce(Reply<T>) -> Ask) -> Option<Result<T, KernelError>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(about(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// The questions that wait.
#[derive(Debug)]
pub(super) struct Asks {
    /// Kept, so that the channel stays open.
    asker: Asker,
    waiting: mpsc::Receiver<Ask>,
}

impl Asks {
    pub(super) fn new() -> Self {
        let (asker, waiting) = mpsc::channel(1);
        Self { asker: Asker(asker), waiting }
    }

    pub(super) fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// The next question. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Ask> {
        self.waiting.recv().await
    }
}

impl Engine {
    /// Nobody left who waits for the answer is no error.
    pub(super) async fn answer(&self, ask: Ask) {
        match ask {
            Ask::Preview(reply) => drop(reply.send(self.dry_run().await.map(|run| run.preview()))),
            Ask::Arriving(own, packets, reply) => drop(reply.send(Ok(self.arriving(own, packets)))),
            Ask::Towards(node, target, reply) => drop(reply.send(self.towards(&node, target).await)),
        }
    }
}
