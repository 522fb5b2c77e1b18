//! Questions that operators have to agents, wherever the agent is connected: here, or at another controller.

use sextant_proto::{
    NodeName, UNKNOWN_QUESTION,
    v1::{self, question::About},
};
use tonic::Status;

use super::Rooms;
use crate::{
    controllers::AskError,
    questions::{PATIENCE, Unanswered},
};

/// What an agent answers, wherever it is connected.
pub(super) async fn ask(rooms: &Rooms, node: &NodeName, about: About) -> Result<v1::answer::About, Status> {
    exists(rooms, node)?;
    let answer = match rooms.questions.ask(node, about.clone()).await {
        Ok(answer) => answer,
        Err(Unanswered::NotHere) => match rooms.others.ask_agent(node, about).await {
            Some(answer) => answer.map_err(passed_on)?,
            None => return Err(unanswered(node, Unanswered::NotHere)),
        },
        Err(why) => return Err(unanswered(node, why)),
    };
    told(node, answer)
}

/// Another controller has the agent, and got no answer from it.
fn passed_on(error: AskError) -> Status {
    match error {
        AskError::TimedOut(why) => Status::deadline_exceeded(why),
        AskError::Failed(why) => Status::internal(why),
    }
}

fn told(node: &NodeName, answer: v1::Answer) -> Result<v1::answer::About, Status> {
    match answer.about {
        Some(v1::answer::About::Failed(why)) if why.contains(UNKNOWN_QUESTION) => {
            Err(Status::internal(format!("the agent of node \"{node}\" is too old: {why}")))
        }
        Some(v1::answer::About::Failed(why)) => Err(Status::internal(format!("node \"{node}\": {why}"))),
        Some(about) => Ok(about),
        None => Err(another(node)),
    }
}

/// That there is such a node.
pub(super) fn exists(rooms: &Rooms, node: &NodeName) -> Result<(), Status> {
    let there = rooms.index.read(|state| state.nodes().contains_key(node));
    let missing = || Status::not_found(format!("node \"{node}\" does not exist; see `sextant node list`"));
    there.then_some(()).ok_or_else(missing)
}

/// That an agent's answer is not of the kind that was asked for.
pub(super) fn another(node: &NodeName) -> Status {
    Status::internal(format!(
        "the agent of node \"{node}\" answered something else than asked; use one of the controller's version"
    ))
}

pub(super) fn unanswered(node: &NodeName, why: Unanswered) -> Status {
    match why {
        Unanswered::NotHere => Status::unavailable(format!(
            "no agent of node \"{node}\" is connected; start sextant-agent on that host, or see its log why it does not connect"
        )),
        Unanswered::Ended => Status::unavailable(format!(
            "the connection to the agent of node \"{node}\" ended before it answered; try again"
        )),
        Unanswered::Silent => Status::deadline_exceeded(format!(
            "the agent of node \"{node}\" did not answer within {PATIENCE:?}; see its log, and its version in `sextant node show {node}`: \
             an older one knows no questions"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        "host1".parse().unwrap()
    }

    #[test]
    fn an_agent_that_does_not_know_the_question_is_told_from_one_that_fails() {
        let said = |why: &str| {
            let about = Some(v1::answer::About::Failed(why.to_owned()));
            told(&node(), v1::Answer { id: 1, about }).unwrap_err().message().to_owned()
        };
        // As sextant 0.1.0 words it.
        let old = said(
            "the agent is sextant 0.1.0, which does not know this question; use one of the controller's version",
        );
        assert!(
            old.starts_with("the agent of node \"host1\" is too old: the agent is sextant 0.1.0"),
            "{old}"
        );
        assert_eq!(said("the agent is stopping"), "node \"host1\": the agent is stopping");
        assert!(told(&node(), v1::Answer::default()).is_err());
    }
}
