//! `sextant node reassign`: drains a node, moves it to another prefix, and waits until it is back.
//!
//! The controller moves it and returns it to service in one change: the node has its prefix from before, or the next one. What
//! fails before that is undone here.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::{NodeName, NodeState, PoolName, Prefix};
use tokio::time::Instant;

use crate::{
    answer::Move,
    failure::Failure,
    global::Output,
    json,
    link::Link,
    progress::Progress,
    show::{self, Show},
};

use super::drain::{self, POLL, find};

/// How long a controller that is briefly unavailable is asked again to move the node.
const MOVE_TIME: Duration = Duration::from_secs(10);

/// A requested move.
pub(crate) struct Order<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) pool: Option<&'a PoolName>,
    pub(crate) timeout: Duration,
}

/// A node that was moved.
#[derive(Debug, PartialEq, Eq)]
struct Reassigned {
    name: NodeName,
    moved: Move,
    state: NodeState,
    laggards: Vec<NodeName>,
}

/// `sextant node reassign`.
pub(crate) async fn reassign(link: &mut Link, output: Output, order: &Order<'_>) -> Result<(), Failure> {
    let name = order.name;
    let planned = link.reassign_node(name, order.pool, order.prefix, true).await?;
    if planned.from == planned.to {
        let state = find(link, name).await?.state();
        return show::print(
            output,
            &Reassigned { name: name.clone(), moved: planned, state, laggards: vec![] },
        );
    }
    let progress = Progress::new(format!("{name}: peers are withdrawing their routes"));
    let done = tokio::select! {
        done = drain_and_move(link, order, &planned, &progress) => done,
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".into())),
    };
    let (moved, laggards) = match done {
        Ok(done) => done,
        Err(failure) => return Err(undone(link, order, &planned, failure).await),
    };
    let state = tokio::select! {
        state = back(link, order, &moved, &progress) => state?,
        Ok(()) = tokio::signal::ctrl_c() => return Err(Failure::Failed(pending("interrupted", order, &moved))),
    };
    drop(progress);
    drain::warn_of(name, &laggards);
    show::print(output, &Reassigned { name: name.clone(), moved, state, laggards })
}

async fn drain_and_move(
    link: &mut Link,
    order: &Order<'_>,
    planned: &Move,
    progress: &Progress,
) -> Result<(Move, Vec<NodeName>), Failure> {
    let laggards = if planned.in_service { withdraw(link, order, planned, progress).await? } else { vec![] };
    progress.show(format!("{}: moving from {}", order.name, planned.from));
    Ok((make(link, order, planned).await?, laggards))
}

/// Drains the node. The peers of a node without an agent withdraw all the same; returns those that have not in time.
async fn withdraw(
    link: &mut Link,
    order: &Order<'_>,
    planned: &Move,
    progress: &Progress,
) -> Result<Vec<NodeName>, Failure> {
    let deadline = Instant::now() + order.timeout;
    let drain = drain::Order { name: order.name, timeout: order.timeout, no_wait: false };
    let revision = link.drain_node(order.name, order.timeout).await?;
    match planned.connected {
        true => drain::drained(link, &drain, revision, deadline, progress).await,
        false => drain::withdrawn(link, &drain, revision, deadline, progress).await,
    }
}

/// Moves the node. If the outcome of a call is unknown, the node's claim tells it.
async fn make(link: &mut Link, order: &Order<'_>, planned: &Move) -> Result<Move, Failure> {
    let deadline = Instant::now() + MOVE_TIME;
    let moved = |moved: Move| Move { from: planned.from, ..moved };
    loop {
        let why = match link.reassign_node(order.name, Some(&planned.pool), order.prefix, false).await {
            Err(Failure::Unavailable(why)) => why,
            other => return other.map(moved),
        };
        if let Some(to) = held(link, order, planned).await.filter(|held| *held != planned.from) {
            return Ok(Move { to, ..planned.clone() });
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable(why));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The prefix that the node holds in the pool now, as far as a controller tells.
async fn held(link: &mut Link, order: &Order<'_>, planned: &Move) -> Option<Prefix> {
    let node = find(link, order.name).await.ok()?;
    node.peer.claim_in(&planned.pool).map(|claim| claim.prefix)
}

/// Returns a node to service that was drained, and not moved; the failure, and what is left to do.
async fn undone(link: &mut Link, order: &Order<'_>, planned: &Move, failure: Failure) -> Failure {
    let name = order.name;
    let has = match held(link, order, planned).await {
        Some(prefix) => format!("{name} holds {prefix}"),
        None => format!("{name} holds {} or the next prefix", planned.from),
    };
    if !planned.in_service {
        return failure.and(&has);
    }
    match link.undrain_node(name).await {
        // It was not drained yet, or it is in service again.
        Ok(_) | Err(Failure::Conflict(_)) => failure.and(&format!("{has}, and returns to service")),
        Err(error) => failure.and(&format!(
            "{has}, and may be drained: return it to service with `sextant node undrain {name}` ({error})"
        )),
    }
}

/// Waits until the node is ready with its next prefix; not for an agent that is not connected.
async fn back(
    link: &mut Link,
    order: &Order<'_>,
    moved: &Move,
    progress: &Progress,
) -> Result<NodeState, Failure> {
    if !moved.connected {
        return Ok(NodeState::Joining);
    }
    let Order { name, timeout, .. } = order;
    let deadline = Instant::now() + *timeout;
    progress.show(format!("{name}: the agent is setting up the host with {}", moved.to));
    loop {
        match find(link, name).await {
            Ok(node) => {
                let claim = node.peer.claim_in(&moved.pool).filter(|claim| claim.prefix == moved.to);
                if claim.is_some_and(|claim| claim.state == NodeState::Ready) {
                    return Ok(NodeState::Ready);
                }
            }
            Err(Failure::Unavailable(_)) => {}
            Err(failure) => return Err(failure),
        }
        if Instant::now() >= deadline {
            return Err(late(order, moved));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn late(order: &Order<'_>, moved: &Move) -> Failure {
    let Order { name, timeout, .. } = order;
    Failure::TimedOut(pending(&format!("node {name} is not ready within {timeout:?}"), order, moved))
}

/// The state of a node that is moved, and not ready yet.
fn pending(why: &str, order: &Order<'_>, moved: &Move) -> String {
    let (Order { name, .. }, Move { from, to, .. }) = (order, moved);
    format!(
        "{why}; {name} holds {to} now (before: {from}), and gets ready by itself once its agent has set up the host: see \
         `sextant node show {name}`, and the log of sextant-agent there"
    )
}

impl Show for Reassigned {
    fn text(&self, _now_unix_ms: u64) -> String {
        let Self { name, moved: Move { from, to, .. }, state, .. } = self;
        match state {
            _ if from == to => format!("{name} holds {to} already\n"),
            NodeState::Ready => format!("{name} reassigned: {to} (before: {from})\n"),
            _ => format!(
                "{name} reassigned: {to} (before: {from}); its agent is not connected, and uses it once it is\n"
            ),
        }
    }

    fn json(&self) -> Value {
        let Self { name, moved: Move { pool, from, to, revision, .. }, state, laggards } = self;
        json::value(json::NodeReassigned {
            name,
            pool,
            from: *from,
            to: *to,
            state: *state,
            revision: *revision,
            laggards,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(to: &str) -> Move {
        Move {
            pool: "main".parse().unwrap(),
            from: "2001:db8:1::/64".parse().unwrap(),
            to: to.parse().unwrap(),
            in_service: true,
            connected: true,
            revision: sextant_proto::Revision(7),
        }
    }

    #[test]
    fn the_answer_tells_what_the_node_has_and_what_is_missing() {
        for (to, state, text) in [
            (
                "2001:db8:2::/64",
                NodeState::Ready,
                "h2 reassigned: 2001:db8:2::/64 (before: 2001:db8:1::/64)\n",
            ),
            (
                "2001:db8:2::/64",
                NodeState::Joining,
                "h2 reassigned: 2001:db8:2::/64 (before: 2001:db8:1::/64); its agent is not connected, and uses it \
                 once it is\n",
            ),
            ("2001:db8:1::/64", NodeState::Drained, "h2 holds 2001:db8:1::/64 already\n"),
        ] {
            let name = "h2".parse().unwrap();
            let answer = Reassigned { name, moved: moved(to), state, laggards: vec![] };
            assert_eq!(answer.text(0), text);
        }
    }

    #[test]
    fn a_node_that_is_late_after_the_move_is_not_reported_as_unmoved() {
        let name: NodeName = "h2".parse().unwrap();
        let order = Order { name: &name, prefix: None, pool: None, timeout: Duration::from_secs(30) };
        let failure = late(&order, &moved("2001:db8:2::/64"));
        assert_eq!(failure.exit_code(), 6);
        let text = "node h2 is not ready within 30s; h2 holds 2001:db8:2::/64 now (before: 2001:db8:1::/64), and gets";
        assert!(failure.to_string().starts_with(text), "{failure}");
    }

    #[test]
    fn what_is_left_to_do_keeps_the_kind_of_the_failure() {
        let failure = Failure::Conflict("taken".into()).and("h2 holds 2001:db8:1::/64");
        assert_eq!((failure.exit_code(), failure.to_string()), (4, "taken; h2 holds 2001:db8:1::/64".into()));
    }
}
