//! Operators' questions to agents that are connected to this controller or to another one.

use sextant_proto::{
    NodeName, UNKNOWN_QUESTION,
    v1::{self, question::About},
};
use tonic::Status;

use super::Services;
use crate::{
    controllers::AskError,
    questions::{ANSWER_TIMEOUT, Unanswered},
};

/// The answer of an agent, at whichever controller it is connected.
pub(super) async fn ask(
    services: &Services,
    node: &NodeName,
    about: About,
) -> Result<v1::answer::About, Status> {
    exists(services, node)?;
    let answer = match services.questions.ask(node, about.clone()).await {
        Ok(answer) => answer,
        Err(Unanswered::NotHere) => match services.others.ask_agent(node, about).await {
            Some(answer) => answer.map_err(remote_error)?,
            None => return Err(unanswered(node, Unanswered::NotHere)),
        },
        Err(why) => return Err(unanswered(node, why)),
    };
    content(node, answer)
}

/// The agent is connected to another controller, but did not answer.
fn remote_error(error: AskError) -> Status {
    match error {
        AskError::TimedOut(why) => Status::deadline_exceeded(why),
        AskError::Failed(why) => Status::internal(why),
    }
}

fn content(node: &NodeName, answer: v1::Answer) -> Result<v1::answer::About, Status> {
    match answer.about {
        Some(v1::answer::About::Failed(why)) if why.contains(UNKNOWN_QUESTION) => {
            Err(Status::internal(format!("the agent of node \"{node}\" is too old: {why}")))
        }
        Some(v1::answer::About::Failed(why)) => Err(Status::internal(format!("node \"{node}\": {why}"))),
        Some(about) => Ok(about),
        None => Err(wrong_kind(node)),
    }
}

/// Fails if the node does not exist.
pub(super) fn exists(services: &Services, node: &NodeName) -> Result<(), Status> {
    let there = services.index.read(|state| state.nodes().contains_key(node));
    let missing = || Status::not_found(format!("node \"{node}\" does not exist; see `sextant node list`"));
    there.then_some(()).ok_or_else(missing)
}

/// The error for an answer of the wrong kind.
pub(super) fn wrong_kind(node: &NodeName) -> Status {
    Status::internal(format!(
        "the agent of node \"{node}\" sent an answer of the wrong kind; use the controller's version of sextant-agent"
    ))
}

pub(super) fn unanswered(node: &NodeName, why: Unanswered) -> Status {
    match why {
        Unanswered::NotHere => Status::unavailable(format!(
            "no agent of node \"{node}\" is connected; start sextant-agent on that host, or see its log for the reason"
        )),
        Unanswered::Ended => Status::unavailable(format!(
            "the connection to the agent of node \"{node}\" ended before it answered; try again"
        )),
        Unanswered::Silent => Status::deadline_exceeded(format!(
            "the agent of node \"{node}\" did not answer within {ANSWER_TIMEOUT:?}; see its log, and its version in `sextant node show {node}`: \
             older versions do not support questions"
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
    fn an_agent_that_is_too_old_is_distinguished_from_one_that_fails() {
        let message = |why: &str| {
            let about = Some(v1::answer::About::Failed(why.to_owned()));
            content(&node(), v1::Answer { id: 1, about }).unwrap_err().message().to_owned()
        };
        // The text of sextant 0.1.0.
        let old = message(
            "the agent is sextant 0.1.0, which does not know this question; use one of the controller's version",
        );
        assert!(
            old.starts_with("the agent of node \"host1\" is too old: the agent is sextant 0.1.0"),
            "{old}"
        );
        assert_eq!(message("the agent is stopping"), "node \"host1\": the agent is stopping");
        assert!(content(&node(), v1::Answer::default()).is_err());
    }
}
