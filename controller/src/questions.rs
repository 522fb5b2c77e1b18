//! Questions to the agents that are connected here: each agent's stream passes them on, and brings the answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_proto::{
    NodeName,
    v1::{self, question::About},
};
use tokio::sync::{mpsc, oneshot};

/// How long an agent may take to answer; less than the command line waits for a controller.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
/// So many questions to one agent may wait to be passed on.
const WAITING: usize = 4;

/// A question on its way to an agent.
#[derive(Debug)]
pub(crate) struct Asked {
    about: About,
    reply: oneshot::Sender<v1::Answer>,
}

/// The agents that are connected here, as far as they can be asked.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    by_node: HashMap<NodeName, (u64, mpsc::Sender<Asked>)>,
    last: u64,
}

/// One agent's end: its stream takes the questions from here, and brings the answers.
#[derive(Debug)]
pub(crate) struct Line {
    questions: Questions,
    node: NodeName,
    number: u64,
    asked: mpsc::Receiver<Asked>,
    open: HashMap<u64, oneshot::Sender<v1::Answer>>,
    last_id: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No agent of this node is connected here.
    NotHere,
    /// Its stream ended meanwhile.
    Ended,
    /// It has too many questions, or an older version.
    Silent,
}

impl Questions {
    /// The line to a newly connected agent, in place of an older one.
    pub(crate) fn line(&self, node: &NodeName) -> Line {
        let (sender, asked) = mpsc::channel(WAITING);
        let mut lines = self.lines();
        lines.last += 1;
        let number = lines.last;
        lines.by_node.insert(node.clone(), (number, sender));
        drop(lines);
        Line { questions: self.clone(), node: node.clone(), number, asked, open: HashMap::new(), last_id: 0 }
    }

    /// Asks an agent that is connected here.
    pub(crate) async fn ask(&self, node: &NodeName, about: About) -> Result<v1::Answer, Unanswered> {
        self.ask_within(PATIENCE, node, about).await
    }

    /// As [`Questions::ask`], of an agent that has this long to answer.
    pub(crate) async fn ask_within(
        &self,
        patience: Duration,
        node: &NodeName,
        about: About,
    ) -> Result<v1::Answer, Unanswered> {
        let line = self.lines().by_node.get(node).map(|(_, line)| line.clone());
        let (reply, answer) = oneshot::channel();
        line.ok_or(Unanswered::NotHere)?.try_send(Asked { about, reply }).map_err(|_| Unanswered::Silent)?;
        let answered = tokio::time::timeout(patience, answer).await;
        answered.map_err(|_| Unanswered::Silent)?.map_err(|_| Unanswered::Ended)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The next question to put to the agent. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<v1::Question> {
        let Asked { about, reply } = self.asked.recv().await?;
        self.last_id += 1;
        // Whoever no longer waits is forgotten.
        self.open.retain(|_, reply| !reply.is_closed());
        self.open.insert(self.last_id, reply);
        Some(v1::Question { id: self.last_id, about: Some(about) })
    }

    /// The agent has answered.
    pub(crate) fn answered(&mut self, answer: v1::Answer) {
        if let Some(reply) = self.open.remove(&answer.id) {
            let _nobody_waits = reply.send(answer);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut lines = self.questions.lines();
        if lines.by_node.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            lines.by_node.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "host1".parse().unwrap()
    }

    fn plan() -> About {
        About::Plan(v1::PlanQuestion {})
    }

    #[tokio::test]
    async fn an_answer_finds_who_asked() {
        let questions = Questions::default();
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::NotHere));
        let mut line = questions.line(&node());
        let agent = async {
            let first = line.next().await.unwrap();
            let second = line.next().await.unwrap();
            for question in [second, first] {
                let about = Some(v1::answer::About::Failed(format!("to {}", question.id)));
                line.answered(v1::Answer { id: question.id, about });
            }
        };
        let host = node();
        let (one, two, ()) = tokio::join!(questions.ask(&host, plan()), questions.ask(&host, plan()), agent);
        assert_eq!((one.unwrap().id, two.unwrap().id), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_waited_for_for_ever() {
        let questions = Questions::default();
        let line = questions.line(&node());
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::Silent));
        let newer = questions.line(&node());
        drop(line);
        let host = node();
        let ended = async { drop(newer) };
        let (asked, ()) = tokio::join!(questions.ask(&host, plan()), ended);
        assert_eq!(asked, Err(Unanswered::Ended), "the older line's end is nothing");
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::NotHere));
    }
}
