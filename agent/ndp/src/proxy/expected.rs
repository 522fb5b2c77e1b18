//! The addresses of the engine's containers, and which of them are silent. Pure.

use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};

use crate::tracked::Tracked;

/// What the engine has.
#[derive(Debug, Default)]
pub(super) struct Expected {
    all: Arc<BTreeSet<Ipv6Addr>>,
    /// Those that were not alive at [`Self::seen`].
    silent: BTreeSet<Ipv6Addr>,
    /// The revision of the addresses that are alive; `None` if all must be looked at.
    seen: Option<u64>,
}

impl Expected {
    /// These are all. Returns those that are not expected any more.
    pub(super) fn replace(&mut self, all: &Arc<BTreeSet<Ipv6Addr>>) -> Vec<Ipv6Addr> {
        if Arc::ptr_eq(&self.all, all) {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.all, all.clone());
        self.seen = None;
        before.difference(all).copied().collect()
    }

    /// Those that are not alive.
    pub(super) fn silent(&mut self, alive: &Tracked<Ipv6Addr>) -> &BTreeSet<Ipv6Addr> {
        match self.seen.and_then(|seen| alive.since(seen)) {
            Some(changed) => {
                for target in changed {
                    let is_silent = self.all.contains(&target) && !alive.contains(target);
                    if is_silent {
                        self.silent.insert(target)
                    } else {
                        self.silent.remove(&target)
                    };
                }
            }
            None => self.silent = self.all.iter().copied().filter(|it| !alive.contains(*it)).collect(),
        }
        self.seen = Some(alive.revision());
        &self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silent_ones_are_known_by_changes_alone() {
        let addr = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n);
        let set = |all: &[u16]| Arc::new(all.iter().map(|n| addr(*n)).collect::<BTreeSet<_>>());
        let (mut alive, mut expected) = (Tracked::default(), Expected::default());
        alive.set(addr(1), true);
        assert!(expected.replace(&set(&[1, 2])).is_empty());
        assert_eq!(*expected.silent(&alive), *set(&[2]));
        for (n, is_alive) in [(1, false), (2, true), (3, true), (3, false)] {
            alive.set(addr(n), is_alive);
        }
        assert_eq!(*expected.silent(&alive), *set(&[1]), "the third is not the engine's");
        assert_eq!(expected.replace(&set(&[2, 3])), [addr(1)]);
        assert_eq!(*expected.silent(&alive), *set(&[3]));
    }
}
