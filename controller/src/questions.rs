//! Questions to the agents that are connected to this controller: each agent's stream forwards them, and receives the answers.

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

/// How long an agent may take to answer; less than the command channel waits for a controller.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// The number of questions that may wait for one agent.
const WAITING: usize = 4;

/// A question that waits for the stream of an agent.
#[derive(Debug)]
pub(crate) struct Asked {
    about: About,
    reply: oneshot::Sender<v1::Answer>,
}

/// The question channels of the connected agents.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    channels: Arc<Mutex<Channels>>,
}

#[derive(Debug, Default)]
struct Channels {
    by_node: HashMap<NodeName, (u64, mpsc::Sender<Asked>)>,
    last: u64,
}

/// The agent's end of a channel: its stream takes the questions from here, and returns the answers.
#[derive(Debug)]
pub(crate) struct Channel {
    questions: Questions,
    node: NodeName,
    number: u64,
    asked: mpsc::Receiver<Asked>,
    open: HashMap<u64, oneshot::Sender<v1::Answer>>,
    last_id: u64,
}

/// The reason for a missing answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No agent of this node is connected here.
    NotHere,
    /// Its stream ended before the answer.
    Ended,
    /// It did not answer in time: it has too many questions, or an older version.
    Silent,
}

impl Questions {
    /// The channel to a newly connected agent; it replaces an older one.
    pub(crate) fn channel(&self, node: &NodeName) -> Channel {
        let (sender, asked) = mpsc::channel(WAITING);
        let mut channels = self.channels();
        channels.last += 1;
        let number = channels.last;
        channels.by_node.insert(node.clone(), (number, sender));
        drop(channels);
        Channel {
            questions: self.clone(),
            node: node.clone(),
            number,
            asked,
            open: HashMap::new(),
            last_id: 0,
        }
    }

    /// Asks an agent that is connected here.
    pub(crate) async fn ask(&self, node: &NodeName, about: About) -> Result<v1::Answer, Unanswered> {
        self.ask_within(ANSWER_TIMEOUT, node, about).await
    }

    /// As [`Questions::ask`], with another time-out.
    pub(crate) async fn ask_within(
        &self,
        timeout: Duration,
        node: &NodeName,
        about: About,
    ) -> Result<v1::Answer, Unanswered> {
        let channel = self.channels().by_node.get(node).map(|(_, channel)| channel.clone());
        let (reply, answer) = oneshot::channel();
        channel
            .ok_or(Unanswered::NotHere)?
            .try_send(Asked { about, reply })
            .map_err(|_| Unanswered::Silent)?;
        let answered = tokio::time::timeout(timeout, answer).await;
        answered.map_err(|_| Unanswered::Silent)?.map_err(|_| Unanswered::Ended)
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// The next question to put to the agent. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<v1::Question> {
        let Asked { about, reply } = self.asked.recv().await?;
        self.last_id += 1;
        // Drops questions that nobody waits for.
        self.open.retain(|_, reply| !reply.is_closed());
        self.open.insert(self.last_id, reply);
        Some(v1::Question { id: self.last_id, about: Some(about) })
    }

    /// The agent has answered.
    pub(crate) fn answered(&mut self, answer: v1::Answer) {
        if let Some(reply) = self.open.remove(&answer.id) {
            let _receiver_gone = reply.send(answer);
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut channels = self.questions.channels();
        if channels.by_node.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            channels.by_node.remove(&self.node);
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
    async fn an_answer_reaches_its_asker() {
        let questions = Questions::default();
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::NotHere));
        let mut channel = questions.channel(&node());
        let agent = async {
            let first = channel.next().await.unwrap();
            let second = channel.next().await.unwrap();
            for question in [second, first] {
                let about = Some(v1::answer::About::Failed(format!("to {}", question.id)));
                channel.answered(v1::Answer { id: question.id, about });
            }
        };
        let host = node();
        let (one, two, ()) = tokio::join!(questions.ask(&host, plan()), questions.ask(&host, plan()), agent);
        assert_eq!((one.unwrap().id, two.unwrap().id), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_answer_times_out() {
        let questions = Questions::default();
        let channel = questions.channel(&node());
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::Silent));
        let newer = questions.channel(&node());
        drop(channel);
        let host = node();
        let ended = async { drop(newer) };
        let (asked, ()) = tokio::join!(questions.ask(&host, plan()), ended);
        assert_eq!(asked, Err(Unanswered::Ended), "the end of the older channel has no effect");
        assert_eq!(questions.ask(&node(), plan()).await, Err(Unanswered::NotHere));
    }
}
