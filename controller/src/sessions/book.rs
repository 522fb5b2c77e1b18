//! The agents that have or had a stream here. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use sextant_daemon::Outage;
use sextant_proto::{InstanceId, NodeName};
use tokio::{sync::oneshot, time::Instant};

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
}

/// Ready once a newer stream of the same node exists.
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
    ) -> (StreamId, Superseded) {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let (newest, superseded) = oneshot::channel();
        let mut agent = Agent {
            stream,
            instance,
            connected: true,
            last_frame: now,
            session: None,
            session_instance: None,
            newest: Some(newest),
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
        (stream, superseded)
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

    /// The recent supersessions of `node`'s streams.
    pub(super) fn superseded(&mut self, node: &NodeName, now: Instant) -> usize {
        let Some(agent) = self.agents.get_mut(node) else { return 0 };
        agent.superseded.retain(|at| now.duration_since(*at) < REMEMBERED);
        agent.superseded.len()
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

    /// Removes the nodes that have been silent for `down_after`; returns those of them that had a session, and how
    /// each disconnected.
    pub(super) fn lost(&mut self, now: Instant, down_after: Duration) -> Vec<(NodeName, Going)> {
        let is_lost = |agent: &Agent| !agent.connected && now.duration_since(agent.last_frame) >= down_after;
        let lost = self.agents.extract_if(|_, agent| is_lost(agent));
        lost.filter(|(_, agent)| agent.session.is_some()).map(|(node, agent)| (node, agent.going())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN_AFTER: Duration = Duration::from_secs(15);

    fn node() -> NodeName {
        "host1".parse().unwrap()
    }

    #[test]
    fn a_silent_agent_is_lost_after_a_while_and_once() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (stream, _) = book.attach(&node(), None, start);
        book.session_put(&node(), LeaseId(1), None);
        assert!(
            book.lost(start + DOWN_AFTER * 9, DOWN_AFTER).is_empty(),
            "connected, however old its last frame"
        );
        book.detach(&node(), stream, start + Duration::from_secs(5));
        assert!(book.lost(start + Duration::from_secs(19), DOWN_AFTER).is_empty());
        assert_eq!(book.lost(start + Duration::from_secs(20), DOWN_AFTER), [(node(), Going::Lost)]);
        assert!(book.lost(start + Duration::from_secs(99), DOWN_AFTER).is_empty());
    }

    #[test]
    fn a_stopped_agent_differs_from_a_lost_one_until_it_is_back() {
        let (mut book, start) = (Book::default(), Instant::now());
        for (back, going) in [(false, Going::Stopped), (true, Going::Lost)] {
            let (mut stream, _) = book.attach(&node(), None, start);
            book.stops(&node(), stream);
            if back {
                stream = book.attach(&node(), None, start).0;
            }
            book.session_put(&node(), LeaseId(1), None);
            book.detach(&node(), stream, start);
            assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER), [(node(), going)]);
        }
    }

    #[test]
    fn an_agent_that_is_back_before_its_session_was_ended_keeps_it() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (stream, _) = book.attach(&node(), None, start);
        book.session_put(&node(), LeaseId(1), None);
        book.detach(&node(), stream, start);
        assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER).len(), 1);
        assert!(!book.is_back(&node(), Some(LeaseId(1))), "nobody is there");
        let (stream, _) = book.attach(&node(), None, start + DOWN_AFTER);
        assert!(book.is_back(&node(), Some(LeaseId(1))) && book.has_session(&node(), LeaseId(1)));
        book.detach(&node(), stream, start + DOWN_AFTER);
        assert_eq!(book.lost(start + DOWN_AFTER * 2, DOWN_AFTER).len(), 1, "it is ended the next time");
    }

    #[test]
    fn an_agent_that_comes_back_in_time_keeps_its_session() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (first, mut superseded) = book.attach(&node(), None, start);
        book.session_put(&node(), LeaseId(1), None);
        assert_eq!(superseded.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        let (second, _) = book.attach(&node(), None, start);
        assert_eq!(superseded.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        book.detach(&node(), first, start);
        assert!(book.lost(start + DOWN_AFTER, DOWN_AFTER).is_empty(), "the older stream's end is nothing");
        assert!(book.is_current(&node(), second) && !book.is_current(&node(), first));
        assert!(book.has_session(&node(), LeaseId(1)));
    }

    #[test]
    fn two_agents_of_one_node_are_noticed_here_and_at_another_controller() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mut streams, node) = (Vec::new(), node());
        for n in 0..4 {
            streams.push(book.attach(&node, None, at(n)).1);
        }
        assert_eq!(book.superseded(&node, at(4)), 3);
        book.session_put(&node, LeaseId(1), None);
        let (there, nowhere) = (HashMap::from([(node.clone(), None)]), HashMap::new());
        for (second, elsewhere) in [(5, &there), (6, &nowhere), (7, &there), (9, &there)] {
            assert!(book.seen_elsewhere(elsewhere, at(second)).is_empty(), "{second}: the index may lag");
        }
        assert_eq!(book.seen_elsewhere(&there, at(10)), std::slice::from_ref(&node));
        assert_eq!(streams[3].try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(book.superseded(&node, at(10)), 4);
        assert_eq!(book.superseded(&node, at(306)), 1, "what is long ago is forgotten");
    }

    #[test]
    fn the_same_run_takes_its_own_place_and_another_run_is_asked_for() {
        let (mut book, now) = (Book::default(), Instant::now());
        let [one, two] = [(); 2].map(|()| Some(InstanceId::random()));
        let (first, _) = book.attach(&node(), one, now);
        for (asking, asks) in [(one, false), (two, true), (None, false)] {
            assert_eq!(book.other_run(&node(), asking).is_some(), asks, "{asking:?}");
        }
        assert_eq!(book.other_run(&node(), two).unwrap(), Present { stream: first, instance: one.unwrap() });
        let (second, _) = book.attach(&node(), one, now);
        assert_eq!(book.superseded(&node(), now), 0, "its own stream, anew");
        book.detach(&node(), second, now);
        assert_eq!(book.other_run(&node(), two), None, "nobody is connected");
        book.attach(&node(), None, now);
        assert_eq!(book.other_run(&node(), two), None, "an older agent does not say which it is");
        book.attach(&node(), two, now);
        assert_eq!(book.superseded(&node(), now), 1, "that of the older agent");
    }

    #[test]
    fn a_session_names_the_run_that_it_is_of() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let [one, two] = [(); 2].map(|()| Some(InstanceId::random()));
        book.attach(&node(), one, start);
        book.session_put(&node(), LeaseId(1), one);
        book.attach(&node(), two, start);
        assert!(!book.has_session(&node(), LeaseId(1)), "it must be put again");
        book.session_put(&node(), LeaseId(1), two);
        assert!(book.has_session(&node(), LeaseId(1)));
        let before = book.superseded(&node(), start);
        for (instance, superseded) in [(two, before), (one, before + 1)] {
            let there = HashMap::from([(node(), instance)]);
            assert!(book.seen_elsewhere(&there, at(1)).is_empty());
            assert_eq!(book.seen_elsewhere(&there, at(4)), [node()]);
            assert_eq!(
                book.superseded(&node(), at(4)),
                superseded,
                "it moved itself, or another took its place"
            );
            book.session_put(&node(), LeaseId(1), two);
        }
    }

    #[test]
    fn a_duplicate_is_a_finding_for_as_long_as_it_tries() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        book.attach(&node(), Some(InstanceId::random()), start);
        let logged: Vec<_> = (0..=12).filter_map(|n| book.refused(&node(), "h9", at(n * 5))).collect();
        assert_eq!(logged, [1, 12], "when it begins, and once a minute");
        assert_eq!(book.duplicates(at(79)), HashMap::from([(node(), "h9".to_owned())]));
        book.attach(&node(), Some(InstanceId::random()), at(79));
        assert_eq!(book.duplicates(at(79)).len(), 1, "a reconnect of the right one changes nothing");
        assert!(book.duplicates(at(80)).is_empty());
        assert_eq!(book.refused(&node(), "h9", at(200)), Some(1), "it has begun anew");
    }

    #[test]
    fn sessions_move_to_a_new_lease() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.attach(&node(), None, start);
        assert!(book.to_move(LeaseId(2)).is_empty(), "not announced: no session to move");
        book.session_put(&node(), LeaseId(1), None);
        assert_eq!(book.to_move(LeaseId(2)), [node()]);
        book.session_put(&node(), LeaseId(2), None);
        assert!(book.to_move(LeaseId(2)).is_empty());
    }

    #[test]
    fn a_session_that_is_gone_from_the_store_for_a_while_is_missing() {
        let (mut book, start) = (Book::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (_stream, _newest) = book.attach(&node(), None, start);
        let (there, nowhere) = (HashSet::from([node()]), HashSet::new());
        assert!(book.missing(&nowhere, at(9)).is_empty(), "it has not been put yet");
        book.session_put(&node(), LeaseId(1), None);
        for (second, found) in [(10, &nowhere), (12, &there), (13, &nowhere), (15, &nowhere)] {
            assert!(book.missing(found, at(second)).is_empty(), "{second}: the index may lag");
        }
        assert_eq!(book.missing(&nowhere, at(16)), [node()]);
        assert!(book.missing(&nowhere, at(17)).is_empty(), "it is being put");
    }
}
