//! What an operator wants to know of this host, and the answers. Changes nothing.

use futures::future::BoxFuture;

use crate::engine::{Asker, Preview};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// What would change in the kernel now?
    Plan,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What would change.
    Plan(Preview),
}

/// Who knows the answers.
#[derive(Clone)]
pub struct Inquiries {
    engine: Asker,
}

impl Inquiries {
    /// Asks `engine`.
    pub fn new(engine: Asker) -> Self {
        Self { engine }
    }

    /// The answer, or why there is none. Cancel safe.
    pub(crate) fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answer, String>> {
        let it = self.clone();
        Box::pin(async move {
            match question {
                Question::Plan => it.plan().await,
            }
        })
    }

    async fn plan(&self) -> Result<Answer, String> {
        let preview = self.engine.preview().await.ok_or("the agent is stopping")?;
        preview.map(Answer::Plan).map_err(|error| format!("{error}; try again"))
    }
}
