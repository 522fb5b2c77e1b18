//! The questions that other tasks ask the engine, and how their answers return.

use std::net::Ipv6Addr;

use sextant_proto::NodeName;
use tokio::sync::{mpsc, oneshot};

use super::{Engine, Preview, Towards};
use crate::kernel::KernelError;

/// What the engine is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Preview(Reply<Preview>),
    Towards(NodeName, Ipv6Addr, Reply<Towards>),
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
            Ask::Towards(node, target, reply) => drop(reply.send(self.towards(&node, target).await)),
        }
    }
}
