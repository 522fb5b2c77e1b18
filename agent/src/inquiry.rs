//! Answers operators' questions about this host. Changes nothing.

use crate::{
    containers::{self, Filter},
    engine::{Arriving, Asker},
    ndp::{self, Wanted},
    problems::{Component, Found},
    session::{Answer, Answers, Question},
    trace::{Tracer, neighbour_proxy},
};
use futures::future::BoxFuture;
use sextant_proto::{Containers, NodeName, PoolName};
use tokio::sync::watch;

/// Answers from the engine and from probes.
#[derive(Clone)]
pub struct Inquiries {
    engine: Asker,
    tracer: Tracer,
    containers: Option<containers::Asked>,
    ndp: Option<Neighbours>,
}

/// What answers neighbour solicitations for containers.
#[derive(Clone)]
pub struct Neighbours {
    pub(crate) node: NodeName,
    pub(crate) asker: ndp::Asker,
    pub(crate) problems: watch::Receiver<Found>,
}

impl Inquiries {
    /// Answers from `engine`, `tracer`, from what the engine of containers has, and from what answers for containers.
    pub(crate) fn new(
        engine: Asker,
        tracer: Tracer,
        containers: Option<containers::Asked>,
        ndp: Option<Neighbours>,
    ) -> Self {
        Self { engine, tracer, containers, ndp }
    }

    async fn ndp(&self, wanted: ndp::Wanted) -> Result<Answer, String> {
        let it = self.ndp.as_ref().ok_or("its topology is not ndp-proxy: it answers no solicitations")?;
        it.asker
            .ask(wanted)
            .await
            .map(Answer::Ndp)
            .ok_or_else(|| "the agent is starting or stopping".to_owned())
    }

    async fn containers(&self, filter: &Filter) -> Containers {
        let live = match &self.containers {
            Some(asked) => asked.now().await,
            None => None,
        };
        containers::answer(live.as_deref(), filter)
    }

    /// The checks of this host, also of its answers to neighbour solicitations, if it gives any.
    async fn host(&self, pool: Option<&PoolName>, arriving: Option<Arriving>) -> Result<Answer, String> {
        let checked = self.tracer.host(pool, arriving).await;
        let mut report = checked.map_err(|error| format!("{error}; try again"))?;
        if let Some(it) = &self.ndp {
            let container = arriving.and_then(|packets| packets.to);
            let known = it.asker.ask(container.map_or(Wanted::Counts, Wanted::One)).await;
            let problems = it.problems.borrow().of(Component::Ndp);
            report.checks.extend(known.map(|known| neighbour_proxy::check(&it.node, &known, &problems)));
        }
        Ok(Answer::Host(report))
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
                Question::Host(pool, arriving) => it.host(pool.as_ref(), arriving).await,
                Question::Containers(filter) => Ok(Answer::Containers(it.containers(&filter).await)),
                Question::Ndp(wanted) => it.ndp(wanted).await,
                Question::Presence => Ok(Answer::Presence),
                Question::Received => Ok(Answer::Received(it.tracer.received())),
                Question::Path(node, address) => {
                    it.tracer.path(&node, address).await.map(Answer::Path).map_err(|error| error.to_string())
                }
            }
        })
    }
}
