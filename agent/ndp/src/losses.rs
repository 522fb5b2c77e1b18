//! What the bridges have lost, in order. Pure.

use std::collections::VecDeque;

use crate::message::Mac;

/// So many losses are remembered; who has missed more cannot tell what is gone.
const MOST: usize = 1024;

/// The addresses of this bridge may be gone: those of a container with this link-layer address, or all.
pub type Loss = (u32, Option<Mac>);

/// The latest losses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Oldest first.
    latest: VecDeque<Loss>,
    count: u64,
}

impl Losses {
    /// Another loss.
    pub fn note(&mut self, loss: Loss) {
        if self.latest.len() == MOST {
            self.latest.pop_front();
        }
        self.latest.push_back(loss);
        self.count += 1;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those after the first `count`; `None` if they are no longer known.
    pub fn since(&self, count: u64) -> Option<impl Iterator<Item = Loss>> {
        let missed = usize::try_from(self.count.checked_sub(count)?).ok()?;
        let start = self.latest.len().checked_sub(missed)?;
        Some(self.latest.range(start..).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_once_and_too_many_missed_ones_are_noticed() {
        let mut losses = Losses::default();
        assert_eq!(losses.since(0).map(Iterator::count), Some(0));
        losses.note((7, Some([2; 6])));
        losses.note((8, None));
        assert_eq!(losses.since(0).unwrap().collect::<Vec<_>>(), [(7, Some([2; 6])), (8, None)]);
        assert_eq!(losses.since(1).unwrap().collect::<Vec<_>>(), [(8, None)]);
        (0..MOST).for_each(|_| losses.note((7, None)));
        assert_eq!(losses.since(2).map(Iterator::count), Some(MOST));
        assert!(losses.since(1).is_none() && losses.since(losses.count() + 1).is_none());
    }
}
