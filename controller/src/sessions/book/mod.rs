//! The agents that have or had a stream here. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use sextant_daemon::Outage;
use sextant_proto::{InstanceId, NodeName};
use tokio::{sync::oneshot, time::Instant};

use super::taker::{Looks, Taker};
use crate::registry::LeaseId;

/// Identifies a stream among those of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub u64);

#[derive(Debug)]
struct Agent {
    stream: StreamId,
    /// The instance of the agent; none if it does not report one.
    instance: Option<InstanceId>,
    connected: bool,
    last_frame: Instant,
    /// The lease of its session in the store.
    session: Option<LeaseId>,
    /// The instance that the session in the store names.
    session_instance: Option<InstanceId>,
    /// Dropped when a newer stream replaces it.
    newest: Option<oneshot::Sender<Infallible>>,
    /// Whether its stream takes what it gets.
    looks: Looks,
    /// It has reported that it stops.
    stopping: bool,
    /// Since when its session is seen at another controller.
    moved: Option<Instant>,
    /// Since when its session is missing in the store.
    missing: Option<Instant>,
    /// The recent times at which another agent's stream superseded one.
    superseded: VecDeque<Instant>,
}

/// Another agent of a node, which was refused.
#[derive(Debug)]
struct Duplicate {
    /// Its address.
    from: String,
    last: Instant,
    refusals: Outage,
}

/// The stream of another run of the agent, which is probed before a newer one replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present {
    /// The stream.
    pub(super) stream: StreamId,
    /// Its instance.
    pub(super) instance: InstanceId,
}

/// Within this time an agent returns once the store is back: its longest back-off is 5 s for each controller.
const RETURN: Duration = Duration::from_secs(15);
/// How long a supersession is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Supersessions have not ended before this much time without one.
const ENDED_FOR: Duration = Duration::from_secs(10);
/// How long a refused agent counts as present after its last attempt: attempts are some seconds apart.
const REFUSED_FOR: Duration = Duration::from_secs(20);
/// How long a session must be at another controller before the stream here is superseded: the index may lag.
const MOVED_FOR: Duration = Duration::from_secs(3);

/// How an agent disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// It stopped, and reported so.
    Stopped,
    /// Without a notice.
    Lost,
    /// Its stream takes no message.
    Blocked,
}

/// Ready once a newer stream of the same node exists, or the node is lost.
pub(super) type Superseded = oneshot::Receiver<Infallible>;

/// The agents of this controller.
#[derive(Debug, Default)]
pub(super) struct Book {
    agents: HashMap<NodeName, Agent>,
    duplicates: HashMap<NodeName, Duplicate>,
    /// The lost nodes whose sessions could not be ended yet, and when that is tried again.
    unended: HashMap<NodeName, (Going, Instant)>,
    last_stream: u64,
}

impl Book {
    /// The connected stream of `node` from another run of its agent than `instance`, if both report their instances.
    pub(super) fn other_run(&self, node: &NodeName, instance: Option<InstanceId>) -> Option<Present> {
        let agent = self.agents.get(node).filter(|agent| agent.connected)?;
        let present = Present { stream: agent.stream, instance: agent.instance? };
        (present.instance != instance?).then_some(present)
    }

    /// A new stream of `node`, which supersedes an older one.
    pub(super) fn attach(
        &mut self,
        node: &NodeName,
        instance: Option<InstanceId>,
        now: Instant,
    ) -> (StreamId, Superseded, Taker) {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let (newest, superseded) = oneshot::channel();
        let looks = Looks::default();
        let taker = looks.taker();
        let mut agent = Agent {
            stream,
            instance,
            connected: true,
            last_frame: now,
            session: None,
            session_instance: None,
            newest: Some(newest),
            looks,
            stopping: false,
            moved: None,
            missing: None,
            superseded: VecDeque::new(),
        };
        if let Some(before) = self.agents.remove(node) {
            let same_run = instance.is_some() && before.instance == instance;
            (agent.session, agent.session_instance) = (before.session, before.session_instance);
            agent.superseded = before.superseded;
            if before.connected && !same_run {
                agent.superseded.push_back(now);
            }
        }
        self.agents.insert(node.clone(), agent);
        (stream, superseded, taker)
    }

    /// Another agent of `node`, at `from`, was refused. Returns the number of refusals if it is to be logged.
    pub(super) fn refused(&mut self, node: &NodeName, from: &str, now: Instant) -> Option<u64> {
        self.duplicates.retain(|_, duplicate| duplicate.tries(now));
        let new = || Duplicate { from: String::new(), last: now, refusals: Outage::default() };
        let duplicate = self.duplicates.entry(node.clone()).or_insert_with(new);
        (duplicate.from, duplicate.last) = (from.to_owned(), now);
        duplicate.refusals.failed(now).map(|failing| failing.failures)
    }

    /// The nodes with a recently refused duplicate agent, and its address.
    pub(super) fn duplicates(&self, now: Instant) -> HashMap<NodeName, String> {
        let present = self.duplicates.iter().filter(|(_, duplicate)| duplicate.tries(now));
        present.map(|(node, duplicate)| (node.clone(), duplicate.from.clone())).collect()
    }

    /// The instance of the node's newest stream.
    pub(super) fn instance(&self, node: &NodeName) -> Option<InstanceId> {
        self.agents.get(node)?.instance
    }

    /// The recent supersessions of `node`'s streams; none once they have ended.
    pub(super) fn superseded(&mut self, node: &NodeName, now: Instant) -> usize {
        let Some(agent) = self.agents.get_mut(node) else { return 0 };
        agent.superseded.retain(|at| now.duration_since(*at) < REMEMBERED);
        if has_ended(&agent.superseded, now) { 0 } else { agent.superseded.len() }
    }

    /// `elsewhere` lists the connected nodes with a session at another controller, and the instance of that session. If that
    /// lasts for a while, the stream here is superseded: the agent moved, or another agent of the node was accepted there
    /// because this one did not answer. Returns the superseded nodes.
    pub(super) fn seen_elsewhere(
        &mut self,
        elsewhere: &HashMap<NodeName, Option<InstanceId>>,
        now: Instant,
    ) -> Vec<NodeName> {
        let mut superseded_nodes = Vec::new();
        let agents = self.agents.iter_mut().filter(|(_, agent)| agent.connected && agent.session.is_some());
        for (node, agent) in agents {
            let Some(instance) = elsewhere.get(node) else {
                agent.moved = None;
                continue;
            };
            if now.duration_since(*agent.moved.get_or_insert(now)) >= MOVED_FOR {
                if instance.is_none() || *instance != agent.instance {
                    agent.superseded.push_back(now);
                }
                (agent.newest, agent.session, agent.moved) = (None, None, None);
                superseded_nodes.push(node.clone());
            }
        }
        superseded_nodes
    }

    /// The connected nodes whose session was put, but is not among those in the store, which belong to the nodes in `there`. Only
    /// those for which that has lasted for a while: the index may lag.
    pub(super) fn missing(&mut self, there: &HashSet<NodeName>, now: Instant) -> Vec<NodeName> {
        let mut missing = Vec::new();
        let agents = self.agents.iter_mut().filter(|(_, agent)| agent.connected && agent.session.is_some());
        for (node, agent) in agents {
            if there.contains(node) {
                agent.missing = None;
            } else if now.duration_since(*agent.missing.get_or_insert(now)) >= MOVED_FOR {
                agent.missing = None;
                missing.push(node.clone());
            }
        }
        missing
    }

    /// A stream has ended; its last message arrived at `last_frame`.
    pub(super) fn detach(&mut self, node: &NodeName, stream: StreamId, last_frame: Instant) {
        if let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.stream == stream) {
            agent.connected = false;
            agent.last_frame = last_frame;
        }
    }

    /// The agent has reported that it stops. Cleared by its next stream.
    pub(super) fn stops(&mut self, node: &NodeName, stream: StreamId) {
        if let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.stream == stream) {
            agent.stopping = true;
        }
    }

    /// Whether `stream` is the node's newest.
    pub(super) fn is_current(&self, node: &NodeName, stream: StreamId) -> bool {
        self.agents.get(node).is_some_and(|agent| agent.stream == stream)
    }

    /// Whether the node's session has `lease` and the newest stream's instance.
    pub(super) fn has_session(&self, node: &NodeName, lease: LeaseId) -> bool {
        let stands = |agent: &Agent| agent.session == Some(lease) && agent.session_instance == agent.instance;
        self.agents.get(node).is_some_and(stands)
    }

    /// The node's session has `lease` and this instance now.
    pub(super) fn session_put(&mut self, node: &NodeName, lease: LeaseId, instance: Option<InstanceId>) {
        if let Some(agent) = self.agents.get_mut(node) {
            (agent.session, agent.session_instance) = (Some(lease), instance);
        }
    }

    /// The node's session in the store is not as its agent is now: it is put again.
    pub(super) fn session_outdated(&mut self, node: &NodeName) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.session_instance = None;
        }
    }

    /// Whether a node that was [`lost`](Self::lost) has had a stream since; its session has `lease` then.
    pub(super) fn is_back(&mut self, node: &NodeName, lease: Option<LeaseId>) -> bool {
        let Some(agent) = self.agents.get_mut(node) else { return false };
        agent.session = agent.session.or(lease);
        true
    }

    /// The connected nodes whose session has another lease than `lease`.
    pub(super) fn to_move(&self, lease: LeaseId) -> Vec<NodeName> {
        let moved = |agent: &Agent| agent.connected && agent.session.is_some_and(|held| held != lease);
        self.agents.iter().filter(|(_, agent)| moved(agent)).map(|(node, _)| node.clone()).collect()
    }

    /// Removes the nodes that have been silent for `down_after`, and those whose streams were not polled between `looks` calls of
    /// this in a row; returns those of them that had a session, and how each disconnected.
    pub(super) fn lost(&mut self, now: Instant, down_after: Duration, looks: u32) -> Vec<(NodeName, Going)> {
        let gone = |agent: &mut Agent| match agent.connected {
            true => (agent.looks.look() >= looks).then_some(Going::Blocked),
            false => (now.duration_since(agent.last_frame) >= down_after).then(|| agent.going()),
        };
        let mut lost = Vec::new();
        self.agents.retain(|node, agent| {
            let Some(going) = gone(agent) else { return true };
            lost.extend(agent.session.map(|_| (node.clone(), going)));
            false
        });
        lost
    }

    /// The session of a node that was [`lost`](Self::lost) could not be ended. Its agent may have left because the store is away,
    /// and returns with the store.
    pub(super) fn not_ended(&mut self, node: NodeName, going: Going, now: Instant) {
        self.unended.insert(node, (going, now + RETURN));
    }

    /// Removes and returns the nodes that were [not ended](Self::not_ended) and are due.
    pub(super) fn unended(&mut self, now: Instant) -> Vec<(NodeName, Going)> {
        let due = self.unended.extract_if(|_, (_, due)| *due <= now);
        due.map(|(node, (going, _))| (node, going)).collect()
    }
}

impl Duplicate {
    /// Whether it still retries.
    fn tries(&self, now: Instant) -> bool {
        now.duration_since(self.last) < REFUSED_FOR
    }
}

impl Agent {
    fn going(&self) -> Going {
        if self.stopping { Going::Stopped } else { Going::Lost }
    }
}

/// Whether several events have ended: none has come for much longer than between two of them.
fn has_ended(events: &VecDeque<Instant>, now: Instant) -> bool {
    let gaps = events.iter().zip(events.iter().skip(1)).map(|(one, next)| next.duration_since(*one));
    let since_last = events.back().map_or(Duration::ZERO, |last| now.duration_since(*last));
    gaps.max().is_some_and(|longest| since_last > (longest * 3).max(ENDED_FOR))
}

#[cfg(test)]
mod tests;
