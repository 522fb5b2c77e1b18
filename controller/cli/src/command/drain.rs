//! `sextant node drain` and `undrain`: the change, and waiting until it is done.
//!
//! Drain: every live agent withdraws its routes to the node; then the node's own agent removes its routes and reports it. If
//! that agent is not connected, only the first half can happen.

use std::time::Duration;

use serde_json::Value;
use sextant_proto::{NodeName, NodeState, Revision};
use sextant_streams::write_stderr;
use tokio::time::Instant;

use crate::{
    answer::{Node, Waited},
    failure::Failure,
    global::Output,
    json,
    link::Link,
    progress::Progress,
    show::{self, Show},
    text,
};

use super::wait::follow;

/// How often the state of the node is read.
pub(super) const POLL: Duration = Duration::from_millis(200);
/// How much longer than its peers a node's own agent may take.
const OWN_TIME: Duration = Duration::from_secs(10);

/// A requested change of a node.
pub(crate) struct Order<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) timeout: Duration,
    pub(crate) no_wait: bool,
}

/// The state that a node has reached.
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
    let progress = Progress::new(format!("{name}: peers are withdrawing their routes"));
    let laggards = drained(link, order, revision, deadline, &progress).await?;
    drop(progress);
    warn_of(name, &laggards);
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
    let progress = Progress::new(format!("{name}: the agent is setting up the host"));
    let goal = Goal { state: NodeState::Ready, name, timeout: order.timeout, peers_lag: Vec::new() };
    goal.reached(link, deadline, &progress).await?;
    drop(progress);
    show::print(output, &changed(name, NodeState::Ready, revision))
}

fn changed(name: &NodeName, state: NodeState, revision: Revision) -> Changed {
    Changed { name: name.clone(), state, revision, laggards: Vec::new() }
}

/// Waits until the peers have withdrawn, and then the node itself; returns the peers that have not in time.
pub(super) async fn drained(
    link: &mut Link,
    order: &Order<'_>,
    revision: Revision,
    deadline: Instant,
    progress: &Progress,
) -> Result<Vec<NodeName>, Failure> {
    let peers_lag = withdrawn(link, order, revision, deadline, progress).await?;
    let Order { name, timeout, .. } = *order;
    let goal = Goal { state: NodeState::Drained, name, timeout, peers_lag };
    Ok(goal.reached(link, deadline, progress).await?.laggards)
}

/// Warns of peers that have not withdrawn in time.
pub(super) fn warn_of(name: &NodeName, laggards: &[NodeName]) {
    if !laggards.is_empty() {
        write_stderr(&format!("sextant: warning: {}", late_peers(name, laggards)));
    }
}

/// Waits until the peers have withdrawn; returns those that have not in time. Returns at once if the node is drained.
pub(super) async fn withdrawn(
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
            // A controller may restart: the drain continues without it.
            Err(Failure::Unavailable(_)) if !remaining.is_zero() => tokio::time::sleep(POLL).await,
            Err(failure) => return Err(failure),
            Ok(Waited { laggards, .. }) => {
                let peers = laggards.into_iter().filter(|laggard| laggard != order.name);
                return Ok(peers.collect());
            }
        }
    }
}

pub(super) async fn find(link: &mut Link, name: &NodeName) -> Result<Node, Failure> {
    let nodes = link.nodes().await?;
    let node = nodes.items.into_iter().find(|node| node.name() == name);
    node.ok_or_else(|| Failure::no_node(name))
}

/// The state that a node should reach.
struct Goal<'a> {
    name: &'a NodeName,
    state: NodeState,
    timeout: Duration,
    /// Peers that had not withdrawn when the wait for them ended.
    peers_lag: Vec<NodeName>,
}

/// The progress of a node towards its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reached,
    /// The node's agent is connected; the goal is not reached yet.
    Working,
    /// Its agent is not connected.
    Disconnected,
    /// It is in another state: the controller does not know the order yet, or another command has replaced it.
    Other(NodeState),
}

impl Goal<'_> {
    /// Reads the state of the node until the goal is reached. A controller that is briefly unavailable is retried.
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
                    let phase = self.phase(&node);
                    if phase == Phase::Reached {
                        return Ok(node);
                    }
                    if phase == Phase::Working {
                        deadline = deadline.max(its_agents);
                    }
                    self.report(phase, before.replace(phase), progress)?;
                    self.late(phase)
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

    fn phase(&self, node: &Node) -> Phase {
        let intermediate = match self.state {
            NodeState::Drained => NodeState::Draining,
            _ => NodeState::Joining,
        };
        match node.state() {
            state if state == self.state => Phase::Reached,
            state if state != intermediate => Phase::Other(state),
            _ if node.peer.session => Phase::Working,
            _ => Phase::Disconnected,
        }
    }

    /// Shows a new phase.
    ///
    /// # Errors
    /// If the node was making progress and is now in another state.
    fn report(&self, phase: Phase, before: Option<Phase>, progress: &Progress) -> Result<(), Failure> {
        match (phase, before) {
            (Phase::Other(state), Some(Phase::Working | Phase::Disconnected)) => {
                return Err(Failure::Conflict(self.replaced(state)));
            }
            (Phase::Disconnected, before) if before != Some(Phase::Disconnected) => {
                progress.note(&self.disconnected())
            }
            (Phase::Working, _) => progress.show(format!("{}: the agent is working", self.name)),
            _ => {}
        }
        Ok(())
    }

    fn late(&self, phase: Phase) -> Failure {
        let why = match phase {
            Phase::Disconnected => format!("{}; start sextant-agent there", self.disconnected()),
            Phase::Other(state) => self.replaced(state),
            Phase::Working | Phase::Reached => {
                "its agent is connected but has not finished; see the log of sextant-agent there".into()
            }
        };
        let Self { name, state, timeout, .. } = self;
        Failure::TimedOut(format!("node {name} is not {state} within {timeout:?}: {why}"))
    }

    fn replaced(&self, state: NodeState) -> String {
        let name = self.name;
        format!("node {name} is {state}: another command has changed it; see `sextant node show {name}`")
    }

    fn disconnected(&self) -> String {
        let name = self.name;
        match (self.state, self.peers_lag.as_slice()) {
            (NodeState::Drained, []) => format!(
                "peers have withdrawn; the agent of {name} is not connected and has not removed its own routes"
            ),
            (NodeState::Drained, laggards) => format!(
                "peers that have not withdrawn: {}; the agent of {name} is not connected and has not removed its own routes",
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
    fn the_phase_follows_from_state_and_session() {
        let name: NodeName = "host1".parse().unwrap();
        let mut node = sample::healthy().nodes.remove(0);
        for (wanted, state, session, phase) in [
            (NodeState::Drained, NodeState::Draining, true, Phase::Working),
            (NodeState::Drained, NodeState::Draining, false, Phase::Disconnected),
            (NodeState::Drained, NodeState::Drained, false, Phase::Reached),
            (NodeState::Drained, NodeState::Ready, true, Phase::Other(NodeState::Ready)),
            (NodeState::Ready, NodeState::Joining, true, Phase::Working),
            (NodeState::Ready, NodeState::Joining, false, Phase::Disconnected),
            (NodeState::Ready, NodeState::Ready, true, Phase::Reached),
            (NodeState::Ready, NodeState::Drained, true, Phase::Other(NodeState::Drained)),
        ] {
            node.peer = node.peer.clone().in_state(state);
            node.peer.session = session;
            assert_eq!(goal(&name, wanted).phase(&node), phase, "{wanted}: {state}, session {session}");
        }
    }

    #[test]
    fn another_state_after_progress_is_a_conflict() {
        let name: NodeName = "host1".parse().unwrap();
        let (goal, progress) = (goal(&name, NodeState::Drained), Progress::new(String::new()));
        let ready = Phase::Other(NodeState::Ready);
        let failure = goal.report(ready, Some(Phase::Working), &progress).unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(goal.report(ready, None, &progress).is_ok(), "the controller may not know the order yet");
        assert_eq!(goal.late(ready).exit_code(), 6);
    }

    #[test]
    fn a_time_out_names_the_missing_step() {
        let name: NodeName = "host1".parse().unwrap();
        let mut goal = goal(&name, NodeState::Drained);
        assert_eq!(
            goal.late(Phase::Disconnected).to_string(),
            "node host1 is not drained within 30s: peers have withdrawn; the agent of host1 is not connected \
             and has not removed its own routes; start sextant-agent there"
        );
        goal.peers_lag = vec!["host2".parse().unwrap()];
        let text = goal.late(Phase::Disconnected).to_string();
        assert!(text.contains("peers that have not withdrawn: host2;"), "{text}");
        assert_eq!(
            late_peers(&name, &goal.peers_lag),
            "host2 had not withdrawn in time and may still route to host1; see `sextant node show NAME`"
        );
    }
}
