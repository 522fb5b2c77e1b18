//! Which agents have a stream here, and which had one. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use sextant_proto::NodeName;
use tokio::{sync::oneshot, time::Instant};

use crate::registry::LeaseId;

/// A stream, told apart from an earlier one of the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub u64);

#[derive(Debug)]
struct Agent {
    stream: StreamId,
    connected: bool,
    last_frame: Instant,
    /// The lease that its session stands under in the store.
    session: Option<LeaseId>,
    /// Dropped once a newer stream is there.
    newest: Option<oneshot::Sender<Infallible>>,
    /// It has said that it was told to stop.
    stopping: bool,
    /// Since when its session is seen to stand at another controller.
    moved: Option<Instant>,
    /// When a stream was put off by another one, as long as it is remembered.
    superseded: VecDeque<Instant>,
}

/// For how long it is remembered that a stream was put off.
const REMEMBERED: Duration = Duration::from_secs(300);
/// For how long a session must stand at another controller until the stream here is put off: the index may lag.
const MOVED_FOR: Duration = Duration::from_secs(3);

/// How an agent went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Going {
    /// It was told to stop, and said so.
    Stopped,
    /// Without a word.
    Lost,
}

/// Ready once a newer stream of the same node is there.
pub(super) type Superseded = oneshot::Receiver<Infallible>;

/// The agents of this controller.
#[derive(Debug, Default)]
pub(super) struct Book {
    agents: HashMap<NodeName, Agent>,
    last_stream: u64,
}

impl Book {
    /// A new stream of `node`, which supersedes an older one.
    pub(super) fn attach(&mut self, node: &NodeName, now: Instant) -> (StreamId, Superseded) {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let before = self.agents.remove(node);
        let session = before.as_ref().and_then(|agent| agent.session);
        let puts_off = before.as_ref().is_some_and(|agent| agent.connected);
        let mut events = before.map(|agent| agent.superseded).unwrap_or_default();
        if puts_off {
            events.push_back(now);
        }
        let (newest, superseded) = oneshot::channel();
        let newest = Some(newest);
        let agent = Agent {
            stream,
            connected: true,
            last_frame: now,
            session,
            newest,
            stopping: false,
            moved: None,
            superseded: events,
        };
        self.agents.insert(node.clone(), agent);
        (stream, superseded)
    }

    /// How often streams of `node` were put off lately.
    pub(super) fn superseded(&mut self, node: &NodeName, now: Instant) -> usize {
        let Some(agent) = self.agents.get_mut(node) else { return 0 };
        agent.superseded.retain(|at| now.duration_since(*at) < REMEMBERED);
        agent.superseded.len()
    }

    /// The connected nodes' sessions that are seen to stand at another controller are those in `elsewhere`. Where one has for a
    /// while, a newer agent of the node is there: the stream here is put off. The answer is those nodes.
    pub(super) fn seen_elsewhere(&mut self, elsewhere: &HashSet<NodeName>, now: Instant) -> Vec<NodeName> {
        let mut put_off = Vec::new();
        let agents = self.agents.iter_mut().filter(|(_, agent)| agent.connected && agent.session.is_some());
        for (node, agent) in agents {
            if !elsewhere.contains(node) {
                agent.moved = None;
            } else if now.duration_since(*agent.moved.get_or_insert(now)) >= MOVED_FOR {
                agent.superseded.push_back(now);
                (agent.newest, agent.session, agent.moved) = (None, None, None);
                put_off.push(node.clone());
            }
        }
        put_off
    }

    /// The end of a stream, whose last frame came at `last_frame`.
    pub(super) fn detach(&mut self, node: &NodeName, stream: StreamId, last_frame: Instant) {
        if let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.stream == stream) {
            agent.connected = false;
            agent.last_frame = last_frame;
        }
    }

    /// The agent has said that it was told to stop. Forgotten with its next stream.
    pub(super) fn stops(&mut self, node: &NodeName, stream: StreamId) {
        if let Some(agent) = self.agents.get_mut(node).filter(|agent| agent.stream == stream) {
            agent.stopping = true;
        }
    }

    /// Whether `stream` is the node's newest.
    pub(super) fn is_current(&self, node: &NodeName, stream: StreamId) -> bool {
        self.agents.get(node).is_some_and(|agent| agent.stream == stream)
    }

    /// Whether the node's session stands under `lease`.
    pub(super) fn has_session(&self, node: &NodeName, lease: LeaseId) -> bool {
        self.agents.get(node).is_some_and(|agent| agent.session == Some(lease))
    }

    /// The node's session stands under `lease` now.
    pub(super) fn session_put(&mut self, node: &NodeName, lease: LeaseId) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.session = Some(lease);
        }
    }

    /// Whether a node that was [`lost`](Self::lost) has had a stream since; its session stands under `lease` then.
    pub(super) fn is_back(&mut self, node: &NodeName, lease: Option<LeaseId>) -> bool {
        let Some(agent) = self.agents.get_mut(node) else { return false };
        agent.session = agent.session.or(lease);
        true
    }

    /// The connected nodes whose session stands under another lease than `lease`.
    pub(super) fn to_move(&self, lease: LeaseId) -> Vec<NodeName> {
        let moved = |agent: &Agent| agent.connected && agent.session.is_some_and(|held| held != lease);
        self.agents.iter().filter(|(_, agent)| moved(agent)).map(|(node, _)| node.clone()).collect()
    }

    /// Takes out the nodes that have been silent for `down_after`; the answer is those of them that had a session, and how
    /// each went.
    pub(super) fn lost(&mut self, now: Instant, down_after: Duration) -> Vec<(NodeName, Going)> {
        let is_lost = |agent: &Agent| !agent.connected && now.duration_since(agent.last_frame) >= down_after;
        let lost = self.agents.extract_if(|_, agent| is_lost(agent));
        lost.filter(|(_, agent)| agent.session.is_some()).map(|(node, agent)| (node, agent.going())).collect()
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
        let (stream, _) = book.attach(&node(), start);
        book.session_put(&node(), LeaseId(1));
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
    fn an_agent_that_was_told_to_stop_is_told_apart_until_it_is_back() {
        let (mut book, start) = (Book::default(), Instant::now());
        for (back, going) in [(false, Going::Stopped), (true, Going::Lost)] {
            let (mut stream, _) = book.attach(&node(), start);
            book.stops(&node(), stream);
            if back {
                stream = book.attach(&node(), start).0;
            }
            book.session_put(&node(), LeaseId(1));
            book.detach(&node(), stream, start);
            assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER), [(node(), going)]);
        }
    }

    #[test]
    fn an_agent_that_is_back_before_its_session_was_ended_keeps_it() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (stream, _) = book.attach(&node(), start);
        book.session_put(&node(), LeaseId(1));
        book.detach(&node(), stream, start);
        assert_eq!(book.lost(start + DOWN_AFTER, DOWN_AFTER).len(), 1);
        assert!(!book.is_back(&node(), Some(LeaseId(1))), "nobody is there");
        let (stream, _) = book.attach(&node(), start + DOWN_AFTER);
        assert!(book.is_back(&node(), Some(LeaseId(1))) && book.has_session(&node(), LeaseId(1)));
        book.detach(&node(), stream, start + DOWN_AFTER);
        assert_eq!(book.lost(start + DOWN_AFTER * 2, DOWN_AFTER).len(), 1, "it is ended the next time");
    }

    #[test]
    fn an_agent_that_comes_back_in_time_keeps_its_session() {
        let (mut book, start) = (Book::default(), Instant::now());
        let (first, mut superseded) = book.attach(&node(), start);
        book.session_put(&node(), LeaseId(1));
        assert_eq!(superseded.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        let (second, _) = book.attach(&node(), start);
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
            streams.push(book.attach(&node, at(n)).1);
        }
        assert_eq!(book.superseded(&node, at(4)), 3);
        book.session_put(&node, LeaseId(1));
        let (there, nowhere) = (HashSet::from([node.clone()]), HashSet::new());
        for (second, elsewhere) in [(5, &there), (6, &nowhere), (7, &there), (9, &there)] {
            assert!(book.seen_elsewhere(elsewhere, at(second)).is_empty(), "{second}: the index may lag");
        }
        assert_eq!(book.seen_elsewhere(&there, at(10)), std::slice::from_ref(&node));
        assert_eq!(streams[3].try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(book.superseded(&node, at(10)), 4);
        assert_eq!(book.superseded(&node, at(306)), 1, "what is long ago is forgotten");
    }

    #[test]
    fn sessions_move_to_a_new_lease() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.attach(&node(), start);
        assert!(book.to_move(LeaseId(2)).is_empty(), "not announced: no session to move");
        book.session_put(&node(), LeaseId(1));
        assert_eq!(book.to_move(LeaseId(2)), [node()]);
        book.session_put(&node(), LeaseId(2));
        assert!(book.to_move(LeaseId(2)).is_empty());
    }
}
