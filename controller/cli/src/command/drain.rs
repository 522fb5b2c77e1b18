//! Draining and undraining a node, and waiting until it is.
//!
//! Drain: every live agent withdraws the node's routes, the node's own agent takes down its own, and says so. Where that
//! agent is not connected, only the first half can come about.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::{NodeName, NodeState, Revision};
use tokio::time::Instant;

use crate::{
    answer::{Node, Waited},
    args::Output,
    failure::Failure,
    json,
    link::Link,
    progress::Progress,
    show::{self, Show},
    text,
};

use super::wait::follow;

/// How often a node is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How much longer than its peers a node's own agent may take.
const OWN_TIME: Duration = Duration::from_secs(10);

/// What is to be done with which node.
pub(crate) struct Order<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) timeout: Duration,
    pub(crate) no_wait: bool,
}

/// How far a node has come.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    name: NodeName,
    state: NodeState,
    revision: Revision,
    laggards: Vec<NodeName>,
}

/// `sextant node drain`.
pub(crate) async fn drain(link: &mut Link, output: Output, order: &Order<'_>) -> Result<(), Failure> {
    let name = order.name;
    let deadline = Instant::now() + order.timeout;
    let revision = link.drain_node(name, order.timeout).await?;
    if order.no_wait {
        return show::print(output, &changed(name, NodeState::Draining, revision));
    }
    let progress = Progress::new(format!("{name}: peers withdraw"));
    let laggards = withdrawn(link, order, revision, deadline, &progress).await?;
    let goal = Goal { state: NodeState::Drained, name, timeout: order.timeout, peers_lag: laggards };
    let node = goal.reached(link, deadline, &progress).await?;
    drop(progress);
    if !node.laggards.is_empty() {
        eprintln!("sextant: warning: {}", late_peers(name, &node.laggards));
    }
    let laggards = node.laggards;
    let drained = Changed { laggards, ..changed(name, NodeState::Drained, revision) };
    show::print(output, &drained)
}

/// `sextant node undrain`.
pub(crate) async fn undrain(link: &mut Link, output: Output, order: &Order<'_>) -> Result<(), Failure> {
    let name = order.name;
    let deadline = Instant::now() + order.timeout;
    let revision = link.undrain_node(name).await?;
    if order.no_wait {
        return show::print(output, &changed(name, NodeState::Joining, revision));
    }
    let progress = Progress::new(format!("{name}: its agent sets up the host"));
    let goal = Goal { state: NodeState::Ready, name, timeout: order.timeout, peers_lag: Vec::new() };
    goal.reached(link, deadline, &progress).await?;
    drop(progress);
    show::print(output, &changed(name, NodeState::Ready, revision))
}

fn changed(name: &NodeName, state: NodeState, revision: Revision) -> Changed {
    Changed { name: name.clone(), state, revision, laggards: Vec::new() }
}

/// Waits until the peers have withdrawn; the answer is those that have not in time. At once if the node is drained.
async fn withdrawn(
    link: &mut Link,
    order: &Order<'_>,
    revision: Revision,
    deadline: Instant,
    progress: &Progress,
) -> Result<Vec<NodeName>, Failure> {
    if find(link, order.name).await?.state() == NodeState::Drained {
        return Ok(Vec::new());
    }
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        match follow(link, Some(revision), Some(remaining), progress).await {
            // A controller that restarts is asked again: the drain goes on without it.
            Err(Failure::Unavailable(_)) if !remaining.is_zero() => tokio::time::sleep(POLL).await,
            Err(failure) => return Err(failure),
            Ok(Waited { laggards, .. }) => {
                let peers = laggards.into_iter().filter(|laggard| laggard != order.name);
                return Ok(peers.collect());
            }
        }
    }
}

async fn find(link: &mut Link, name: &NodeName) -> Result<Node, Failure> {
    let nodes = link.nodes().await?;
    let node = nodes.items.into_iter().find(|node| node.name() == name);
    node.ok_or_else(|| Failure::no_node(name))
}

/// The state that a node is to come into.
struct Goal<'a> {
    name: &'a NodeName,
    state: NodeState,
    timeout: Duration,
    /// Peers that had not withdrawn when the wait for them ended.
    peers_lag: Vec<NodeName>,
}

/// What a look at the node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Reached,
    /// Its agent is at it.
    Working,
    /// Its agent is not connected.
    Alone,
    /// It is in another state: the controller has not heard of the order yet, or somebody else gave another one.
    Elsewhere(NodeState),
}

impl Goal<'_> {
    /// Looks at the node until it is there. A controller that is away for a moment is asked again.
    async fn reached(
        &self,
        link: &mut Link,
        mut deadline: Instant,
        progress: &Progress,
    ) -> Result<Node, Failure> {
        let its_agents = Instant::now() + OWN_TIME;
        let mut before = None;
        loop {
            let failure = match find(link, self.name).await {
                Ok(node) => {
                    let look = self.look(&node);
                    if look == Look::Reached {
                        return Ok(node);
                    }
                    if look == Look::Working {
                        deadline = deadline.max(its_agents);
                    }
                    self.tell(look, before.replace(look), progress)?;
                    self.late(look)
                }
                Err(Failure::Unavailable(why)) => Failure::Unavailable(why),
                Err(failure) => return Err(failure),
            };
            if Instant::now() >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn look(&self, node: &Node) -> Look {
        let on_its_way = match self.state {
            NodeState::Drained => NodeState::Draining,
            _ => NodeState::Joining,
        };
        match node.state() {
            state if state == self.state => Look::Reached,
            state if state != on_its_way => Look::Elsewhere(state),
            _ if node.peer.session => Look::Working,
            _ => Look::Alone,
        }
    }

    /// Says what is new.
    ///
    /// # Errors
    /// If the node was on its way and has left it.
    fn tell(&self, look: Look, before: Option<Look>, progress: &Progress) -> Result<(), Failure> {
        match (look, before) {
            (Look::Elsewhere(state), Some(Look::Working | Look::Alone)) => {
                return Err(Failure::Conflict(self.elsewhere(state)));
            }
            (Look::Alone, before) if before != Some(Look::Alone) => progress.note(&self.alone()),
            (Look::Working, _) => progress.say(format!("{}: its agent is at it", self.name)),
            _ => {}
        }
        Ok(())
    }

    fn late(&self, look: Look) -> Failure {
        let why = match look {
            Look::Alone => format!("{}; start sextant-agent there", self.alone()),
            Look::Elsewhere(state) => self.elsewhere(state),
            Look::Working | Look::Reached => {
                "its agent is connected, and not done; look at sextant-agent's log there".into()
            }
        };
        let Self { name, state, timeout, .. } = self;
        Failure::TimedOut(format!("node {name} is not {state} within {timeout:?}: {why}"))
    }

    fn elsewhere(&self, state: NodeState) -> String {
        let name = self.name;
        format!("node {name} is {state}: somebody else changed it meanwhile; see `sextant node show {name}`")
    }

    fn alone(&self) -> String {
        let name = self.name;
        match (self.state, self.peers_lag.as_slice()) {
            (NodeState::Drained, []) => format!(
                "peers have withdrawn; the agent of {name} is not connected and has not taken down its own routes"
            ),
            (NodeState::Drained, laggards) => format!(
                "not withdrawn: {}; the agent of {name} is not connected and has not taken down its own routes",
                text::some_names(laggards)
            ),
            _ => format!("the agent of {name} is not connected and has not set up its host"),
        }
    }
}

fn late_peers(name: &NodeName, laggards: &[NodeName]) -> String {
    format!(
        "{} had not withdrawn in time and may still route to {name}; see `sextant node show NAME`",
        text::some_names(laggards)
    )
}

impl Show for Changed {
    fn text(&self, _now_unix_ms: u64) -> String {
        format!("{} {}\n", self.name, self.state)
    }

    fn json(&self) -> Value {
        let Self { name, state, revision, laggards } = self;
        json::value(json::NodeChanged { name, state: *state, revision: *revision, laggards })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    fn goal(name: &NodeName, state: NodeState) -> Goal<'_> {
        Goal { name, state, timeout: Duration::from_secs(30), peers_lag: Vec::new() }
    }

    #[test]
    fn a_node_is_looked_at() {
        let name: NodeName = "host1".parse().unwrap();
        let mut node = sample::well().nodes.remove(0);
        for (wanted, state, session, look) in [
            (NodeState::Drained, NodeState::Draining, true, Look::Working),
            (NodeState::Drained, NodeState::Draining, false, Look::Alone),
            (NodeState::Drained, NodeState::Drained, false, Look::Reached),
            (NodeState::Drained, NodeState::Ready, true, Look::Elsewhere(NodeState::Ready)),
            (NodeState::Ready, NodeState::Joining, true, Look::Working),
            (NodeState::Ready, NodeState::Joining, false, Look::Alone),
            (NodeState::Ready, NodeState::Ready, true, Look::Reached),
            (NodeState::Ready, NodeState::Drained, true, Look::Elsewhere(NodeState::Drained)),
        ] {
            (node.peer.state, node.peer.session) = (state, session);
            assert_eq!(goal(&name, wanted).look(&node), look, "{wanted}: {state}, session {session}");
        }
    }

    #[test]
    fn a_node_that_leaves_its_way_is_a_conflict() {
        let name: NodeName = "host1".parse().unwrap();
        let (goal, progress) = (goal(&name, NodeState::Drained), Progress::new(String::new()));
        let ready = Look::Elsewhere(NodeState::Ready);
        let failure = goal.tell(ready, Some(Look::Working), &progress).unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(goal.tell(ready, None, &progress).is_ok(), "the order may not be known there yet");
        assert_eq!(goal.late(ready).exit_code(), 6);
    }

    #[test]
    fn what_is_missing_at_the_end_is_named() {
        let name: NodeName = "host1".parse().unwrap();
        let mut goal = goal(&name, NodeState::Drained);
        assert_eq!(
            goal.late(Look::Alone).to_string(),
            "node host1 is not drained within 30s: peers have withdrawn; the agent of host1 is not connected \
             and has not taken down its own routes; start sextant-agent there"
        );
        goal.peers_lag = vec!["host2".parse().unwrap()];
        let text = goal.late(Look::Alone).to_string();
        assert!(text.contains("not withdrawn: host2;"), "{text}");
        assert_eq!(
            late_peers(&name, &goal.peers_lag),
            "host2 had not withdrawn in time and may still route to host1; see `sextant node show NAME`"
        );
    }
}
