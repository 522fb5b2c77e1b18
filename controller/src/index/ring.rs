//! The last deltas, each encoded once.

use std::collections::VecDeque;

use bytes::Bytes;
use sextant_proto::Revision;

/// An encoded delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The revision it follows.
    pub since: Revision,
    /// The revision it leads to.
    pub revision: Revision,
    /// The encoded `Delta`.
    pub delta: Bytes,
}

/// The answer to a reader at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// The deltas since, oldest first; none if it is up to date.
    Deltas(Vec<Frame>),
    /// The reader is too far behind, or was never in this chain: it needs a snapshot.
    Fallen,
}

/// A chain of deltas, each following the one before it, bounded in octets.
#[derive(Debug)]
pub(super) struct Ring {
    frames: VecDeque<Frame>,
    newest: Revision,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    pub(super) fn new(newest: Revision, max_bytes: usize) -> Self {
        Self { frames: VecDeque::new(), newest, bytes: 0, max_bytes }
    }

    /// Adds the delta from the newest revision to `revision`.
    pub(super) fn push(&mut self, revision: Revision, delta: Bytes) {
        self.bytes += delta.len();
        self.frames.push_back(Frame { since: self.newest, revision, delta });
        self.newest = revision;
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.delta.len();
        }
    }

    pub(super) fn since(&self, revision: Revision) -> Since {
        if revision == self.newest {
            return Since::Deltas(Vec::new());
        }
        let start = self.frames.partition_point(|frame| frame.since < revision);
        match self.frames.get(start) {
            Some(frame) if frame.since == revision => {
                Since::Deltas(self.frames.range(start..).cloned().collect())
            }
            _ => Since::Fallen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(since: Since) -> Option<Vec<u64>> {
        match since {
            Since::Deltas(frames) => Some(frames.iter().map(|frame| frame.revision.0).collect()),
            Since::Fallen => None,
        }
    }

    #[test]
    fn a_reader_continues_from_its_position() {
        let mut ring = Ring::new(Revision(5), 1000);
        for revision in [7, 8, 20] {
            ring.push(Revision(revision), Bytes::from_static(b"xx"));
        }
        assert_eq!(revisions(ring.since(Revision(5))), Some(vec![7, 8, 20]));
        assert_eq!(revisions(ring.since(Revision(8))), Some(vec![20]));
        assert_eq!(revisions(ring.since(Revision(20))), Some(vec![]));
        assert_eq!(revisions(ring.since(Revision(6))), None, "never in this chain");
        assert_eq!(revisions(ring.since(Revision(21))), None, "from the future");
    }

    #[test]
    fn a_reader_that_is_too_slow_needs_a_snapshot() {
        let mut ring = Ring::new(Revision(1), 10);
        for revision in 2..=20 {
            ring.push(Revision(revision), Bytes::from_static(b"xxxxx"));
        }
        assert_eq!(revisions(ring.since(Revision(18))), Some(vec![19, 20]));
        assert_eq!(revisions(ring.since(Revision(17))), None);
    }
}
