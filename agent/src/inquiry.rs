//! Answers operators' questions about this host. Changes nothing.

use crate::{
    engine::Asker,
    session::{Answer, Answers, Question},
    trace::Tracer,
};
use futures::future::BoxFuture;

/// Answers from the engine and from probes.
#[derive(Clone)]
pub struct Inquiries {
    engine: Asker,
    tracer: Tracer,
}

impl Inquiries {
    /// Answers from `engine` and `tracer`.
    pub(crate) fn new(engine: Asker, tracer: Tracer) -> Self {
        Self { engine, tracer }
    }

    async fn plan(&self) -> Result<Answer, String> {
        let preview = self.engine.preview().await.ok_or("the agent is stopping")?;
        preview.map(Answer::Plan).map_err(|error| format!("{error}; try again"))
    }
}

impl Answers for Inquiries {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>> {
        let it = self.clone();
        Box::pin(async move {
            match question {
                Question::Plan => it.plan().await,
                Question::Host(pool) => it
                    .tracer
                    .host(pool.as_ref())
                    .await
                    .map(Answer::Host)
                    .map_err(|error| format!("{error}; try again")),
                Question::Presence => Ok(Answer::Presence),
                Question::Received => Ok(Answer::Received(it.tracer.received())),
                Question::Path(node, address) => {
                    it.tracer.path(&node, address).await.map(Answer::Path).map_err(|error| error.to_string())
                }
            }
        })
    }
}
