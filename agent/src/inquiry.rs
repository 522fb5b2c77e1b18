//! What an operator wants to know of this host, and the answers. Changes nothing.

use std::net::Ipv6Addr;

use futures::future::BoxFuture;
use sextant_proto::NodeName;

use crate::{
    engine::{Asker, Preview},
    trace::{HostLook, Received, Tracer, WayLook},
};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// What would change in the kernel now?
    Plan,
    /// Does this host take and forward what comes for its containers?
    Host,
    /// How many probes have arrived here so far?
    Received,
    /// Is the agent there?
    Presence,
    /// How does the way to this bridge address of that node begin?
    Way(NodeName, Ipv6Addr),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What would change.
    Plan(Preview),
    /// How the host is.
    Host(HostLook),
    /// How many have arrived.
    Received(Received),
    /// It is there.
    Presence,
    /// How the way is.
    Way(WayLook),
}

/// Who knows the answers.
#[derive(Clone)]
pub struct Inquiries {
    engine: Asker,
    tracer: Tracer,
}

impl Inquiries {
    /// Asks `engine`, and has `tracer` look.
    pub(crate) fn new(engine: Asker, tracer: Tracer) -> Self {
        Self { engine, tracer }
    }

    /// The answer, or why there is none. Cancel safe.
    pub(crate) fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>> {
        let it = self.clone();
        Box::pin(async move {
            match question {
                Question::Plan => it.plan().await,
                Question::Host => {
                    it.tracer.host().await.map(Answer::Host).map_err(|error| format!("{error}; try again"))
                }
                Question::Presence => Ok(Answer::Presence),
                Question::Received => Ok(Answer::Received(it.tracer.received())),
                Question::Way(node, address) => {
                    it.tracer.way(&node, address).await.map(Answer::Way).map_err(|error| error.to_string())
                }
            }
        })
    }

    async fn plan(&self) -> Result<Answer, String> {
        let preview = self.engine.preview().await.ok_or("the agent is stopping")?;
        preview.map(Answer::Plan).map_err(|error| format!("{error}; try again"))
    }
}
