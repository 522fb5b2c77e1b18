//! Which part of the engine's state events make stale. Pure.

use std::collections::BTreeSet;

/// So many containers are asked for by their ids; with more, all are read.
const MOST_IDS: usize = 32;

/// An event of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something has become of this container, or of its networks.
    Container(String),
    /// A network has come or gone.
    Network,
}

/// What has to be read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stale {
    networks: bool,
    all: bool,
    ids: BTreeSet<String>,
}

impl Stale {
    /// Everything: events may have been missed.
    pub fn everything() -> Self {
        Self { networks: true, all: true, ids: BTreeSet::new() }
    }

    /// An event has come.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Network => self.networks = true,
            Event::Container(_) if self.all => {}
            Event::Container(id) => {
                self.ids.insert(id);
                self.all = self.ids.len() > MOST_IDS;
                if self.all {
                    self.ids.clear();
                }
            }
        }
    }

    /// Whether nothing has to be read.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the networks are to be read.
    pub fn networks(&self) -> bool {
        self.networks
    }

    /// The containers to read: `None` for all of them.
    pub fn containers(&self) -> Option<Vec<String>> {
        (!self.all).then(|| self.ids.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_containers_are_read_by_their_ids_and_many_all_at_once() {
        let mut stale = Stale::default();
        assert!(stale.is_empty() && !Stale::everything().is_empty());
        assert_eq!((stale.networks(), stale.containers()), (false, Some(vec![])));
        for id in ["b", "a", "b"] {
            stale.note(Event::Container(id.into()));
        }
        assert_eq!(stale.containers(), Some(vec!["a".into(), "b".into()]));
        stale.note(Event::Network);
        assert!(stale.networks());
        for id in 0..5000 {
            stale.note(Event::Container(id.to_string()));
        }
        assert_eq!((stale.containers(), stale.ids.len()), (None, 0), "bounded");
        assert_eq!(Stale::everything().containers(), None);
    }
}
