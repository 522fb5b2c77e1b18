//! The occupied prefixes, as a tree in which one descent finds a free prefix of any length. Pure.
//!
//! A path-compressed binary tree of prefixes. Each node has the lengths of the free blocks under it, so a search follows only
//! paths that lead to one: its cost grows with the depth of the tree, not with the size of the pool or the number of
//! prefixes.

use std::net::Ipv6Addr;

use sextant_proto::Prefix;

/// The kind of an occupied prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Claimed or reserved: must not be granted.
    Taken,
    /// Freed recently: not granted while others are free.
    Quarantined,
    /// The cluster stands on it: an address of a host, of a link, or of a controller. Who held it before keeps it.
    Infrastructure,
}

/// How many kinds there are.
const KINDS: usize = 3;

/// The prefixes that may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// All that are not claimed or reserved.
    Unclaimed,
    /// All that are not claimed or reserved, and that the cluster does not stand on.
    Free,
    /// All that are also not quarantined.
    Fresh,
}

impl Among {
    const ALL: [Self; 3] = [Self::Unclaimed, Self::Free, Self::Fresh];

    /// Whether what is of this kind may not be granted.
    fn excludes(self, kind: Kind) -> bool {
        match kind {
            Kind::Taken => true,
            Kind::Infrastructure => self != Self::Unclaimed,
            Kind::Quarantined => self == Self::Fresh,
        }
    }
}

impl Kind {
    const ALL: [Self; KINDS] = [Self::Taken, Self::Quarantined, Self::Infrastructure];
}

/// A set of block lengths: bit n stands for blocks of length n. /128 cannot be expressed: no host prefix has that length.
type Lengths = u128;

/// The occupied prefixes: a multiset, which may contain each other.
#[derive(Debug, Default)]
pub struct Occupied {
    root: Option<Box<Node>>,
    /// Many prefixes are added at once: the summaries of nodes are computed at the end.
    loading: bool,
}

#[derive(Debug)]
struct Node {
    prefix: Prefix,
    /// The occurrences of this prefix, by kind.
    here: [u32; KINDS],
    /// The occurrences here and below, by kind.
    below: [u32; KINDS],
    /// The lengths of the largest free blocks, by [`Among`].
    free: [Lengths; Among::ALL.len()],
    children: [Option<Box<Node>>; 2],
}

impl Occupied {
    /// For many prefixes: until [`loaded`](Self::loaded) it must not be searched.
    pub fn loading() -> Self {
        Self { root: None, loading: true }
    }

    /// The prefixes that were there at first are all in.
    pub fn loaded(&mut self) {
        self.loading = false;
        if let Some(root) = &mut self.root {
            root.refresh_all();
        }
    }

    /// Adds a prefix.
    pub fn insert(&mut self, prefix: Prefix, kind: Kind) {
        insert(&mut self.root, prefix, kind, self.loading);
    }

    /// Removes one occurrence of a prefix, if it has one.
    pub fn remove(&mut self, prefix: Prefix, kind: Kind) {
        remove(&mut self.root, prefix, kind);
    }

    /// The number of prefixes of a kind inside `prefix`.
    pub fn count(&self, prefix: Prefix, kind: Kind) -> u32 {
        self.under(prefix).map_or(0, |node| node.below[kind as usize])
    }

    /// Whether nothing overlaps `prefix`.
    pub fn is_free(&self, prefix: Prefix, among: Among) -> bool {
        self.lengths(prefix, among) == length(prefix.len())
    }

    /// The length of the smallest free block of `pool` that a prefix of length `len` fits into.
    pub fn tightest(&self, pool: Prefix, len: u8, among: Among) -> Option<u8> {
        let fitting = self.lengths(pool, among) & up_to(len);
        (fitting != 0).then(|| 127 - fitting.leading_zeros() as u8)
    }

    /// The first free prefix of length `len` at or after `start`, going round in `pool`; only out of free blocks that are
    /// at least `from` and at most `len` bits long.
    pub fn find(&self, pool: Prefix, len: u8, among: Among, from: u8, start: Ipv6Addr) -> Option<Prefix> {
        let below = if from == 0 { 0 } else { up_to(from - 1) };
        let search = Search { len, among, wanted: up_to(len) & !below };
        if self.is_blocked(pool, among) {
            return None;
        }
        let (node, start) = (self.under(pool), Prefix::containing(start, len)?.addr().to_bits());
        search.first(pool, node, start).or_else(|| search.first(pool, node, 0))
    }

    /// The lengths of the largest free blocks of `prefix`.
    fn lengths(&self, prefix: Prefix, among: Among) -> Lengths {
        if self.is_blocked(prefix, among) { 0 } else { lengths(prefix, self.under(prefix), among) }
    }

    /// Whether an occupied prefix contains `prefix`.
    fn is_blocked(&self, prefix: Prefix, among: Among) -> bool {
        let mut node = self.root.as_deref();
        while let Some(it) = node.filter(|it| it.prefix.covers(prefix)) {
            if it.blocks(among) {
                return true;
            }
            node = it.children.get(side(it.prefix, prefix)).and_then(Option::as_deref);
            if it.prefix == prefix {
                break;
            }
        }
        false
    }

    /// The topmost node inside `prefix`.
    fn under(&self, prefix: Prefix) -> Option<&Node> {
        let mut node = self.root.as_deref();
        while let Some(it) = node {
            if prefix.covers(it.prefix) {
                return Some(it);
            }
            if !it.prefix.covers(prefix) {
                return None;
            }
            node = it.children[side(it.prefix, prefix)].as_deref();
        }
        None
    }
}

impl Node {
    fn leaf(prefix: Prefix) -> Box<Self> {
        Box::new(Self {
            prefix,
            here: [0; KINDS],
            below: [0; KINDS],
            free: [0; Among::ALL.len()],
            children: [None, None],
        })
    }

    fn blocks(&self, among: Among) -> bool {
        Kind::ALL.into_iter().any(|kind| among.excludes(kind) && self.here[kind as usize] > 0)
    }

    fn is_empty(&self, among: Among) -> bool {
        Kind::ALL.into_iter().all(|kind| !among.excludes(kind) || self.below[kind as usize] == 0)
    }

    /// Recomputes all summaries from below.
    fn refresh_all(&mut self) {
        self.children.iter_mut().flatten().for_each(|child| child.refresh_all());
        self.refresh();
    }

    /// Recomputes the summary from the children.
    fn refresh(&mut self) {
        for kind in 0..KINDS {
            let children = self.children.iter().flatten();
            self.below[kind] = self.here[kind] + children.map(|child| child.below[kind]).sum::<u32>();
        }
        for among in Among::ALL {
            self.free[among as usize] = if self.blocks(among) {
                0
            } else {
                let halves = halves(self.prefix).zip(&self.children);
                halves.fold(0, |all, (half, child)| all | lengths(half, child.as_deref(), among))
            };
        }
    }
}

/// One search: for a prefix of length `len`, out of blocks of the lengths that are `wanted`.
struct Search {
    len: u8,
    among: Among,
    wanted: Lengths,
}

impl Search {
    /// The first one in `block` that begins at or after `start`; `node` is the topmost node inside it.
    fn first(&self, block: Prefix, node: Option<&Node>, start: u128) -> Option<Prefix> {
        let is_past = block.last_addr().to_bits() < start;
        if is_past || lengths(block, node, self.among) & self.wanted == 0 {
            return None;
        }
        let Some(node) = node.filter(|node| !node.is_empty(self.among)) else {
            let addr = Ipv6Addr::from_bits(start.max(block.addr().to_bits()));
            return Prefix::containing(addr, self.len);
        };
        let [left, right] = if node.prefix == block {
            [node.children[0].as_deref(), node.children[1].as_deref()]
        } else {
            let mut children = [None, None];
            children[side(block, node.prefix)] = Some(node);
            children
        };
        let mut halves = halves(block);
        let first = halves.next().and_then(|half| self.first(half, left, start));
        first.or_else(|| halves.next().and_then(|half| self.first(half, right, start)))
    }
}

/// The lengths of the largest free blocks of `block`, in which `node` is topmost.
fn lengths(block: Prefix, node: Option<&Node>, among: Among) -> Lengths {
    match node.filter(|node| !node.is_empty(among)) {
        None => length(block.len()),
        // On the way down to the node, each half that it is not in is free.
        Some(node) => (up_to(node.prefix.len()) & !up_to(block.len())) | node.free[among as usize],
    }
}

fn length(len: u8) -> Lengths {
    1u128.checked_shl(len.into()).unwrap_or(0)
}

/// All lengths up to this one.
fn up_to(len: u8) -> Lengths {
    1u128.checked_shl(u32::from(len) + 1).map_or(u128::MAX, |bit| bit - 1)
}

fn halves(prefix: Prefix) -> impl Iterator<Item = Prefix> {
    (0..2).filter_map(move |half| prefix.nth(prefix.len() + 1, half))
}

/// The half of `outer` that contains the longer `inner`.
fn side(outer: Prefix, inner: Prefix) -> usize {
    let shift = 127u32.saturating_sub(outer.len().into());
    (inner.addr().to_bits() >> shift & 1) as usize
}

fn insert(slot: &mut Option<Box<Node>>, prefix: Prefix, kind: Kind, loading: bool) {
    let node = match slot.take() {
        None => Node::leaf(prefix),
        Some(node) if node.prefix.covers(prefix) => node,
        Some(node) => {
            let mut above = Node::leaf(common(prefix, node.prefix));
            let half = side(above.prefix, node.prefix);
            above.children[half] = Some(node);
            above
        }
    };
    let node = slot.insert(node);
    if node.prefix == prefix {
        node.here[kind as usize] += 1;
    } else {
        insert(&mut node.children[side(node.prefix, prefix)], prefix, kind, loading);
    }
    if !loading {
        node.refresh();
    }
}

fn remove(slot: &mut Option<Box<Node>>, prefix: Prefix, kind: Kind) {
    let Some(node) = slot.as_mut().filter(|node| node.prefix.covers(prefix)) else {
        return;
    };
    if node.prefix == prefix {
        node.here[kind as usize] = node.here[kind as usize].saturating_sub(1);
    } else {
        remove(&mut node.children[side(node.prefix, prefix)], prefix, kind);
    }
    node.refresh();
    // What says nothing of its own goes.
    if node.here == [0; KINDS] && node.children.iter().flatten().count() < 2 {
        let only = node.children.iter_mut().find_map(Option::take);
        *slot = only;
    }
}

/// The longest common prefix.
fn common(a: Prefix, b: Prefix) -> Prefix {
    let same = (a.addr().to_bits() ^ b.addr().to_bits()).leading_zeros() as u8;
    a.ancestor(same.min(a.len()).min(b.len())).unwrap_or(a)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POOL: &str = "fd00::/58";

    fn pool() -> Prefix {
        POOL.parse().unwrap()
    }

    /// The same by brute force.
    #[derive(Default)]
    struct Model(Vec<(Prefix, Kind)>);

    impl Model {
        fn is_free(&self, prefix: Prefix, among: Among) -> bool {
            !self.0.iter().any(|(other, kind)| among.excludes(*kind) && other.overlaps(prefix))
        }

        fn find(&self, len: u8, among: Among, start: Ipv6Addr) -> Option<Prefix> {
            let start = Prefix::containing(start, len).unwrap();
            let all: Vec<_> = (0..pool().count(len)).filter_map(|n| pool().nth(len, n)).collect();
            let (before, after): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| *it < start);
            after.into_iter().chain(before).find(|it| self.is_free(*it, among))
        }

        fn tightest(&self, len: u8, among: Among) -> Option<u8> {
            let is_largest = |it: Prefix| {
                let above = it.ancestor(it.len() - 1).unwrap();
                it == pool() || !self.is_free(above, among)
            };
            (58..=len).rev().find(|&block| {
                let mut blocks = (0..pool().count(block)).filter_map(|n| pool().nth(block, n));
                blocks.any(|it| self.is_free(it, among) && is_largest(it))
            })
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Prefix, Kind),
        Remove(usize),
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![3 => Just(Kind::Taken), 1 => Just(Kind::Quarantined), 1 => Just(Kind::Infrastructure)]
    }

    fn inside() -> impl Strategy<Value = Prefix> {
        (58u8..=67, any::<u128>()).prop_map(|(len, n)| pool().nth(len, n % pool().count(len)).unwrap())
    }

    fn step() -> impl Strategy<Value = Step> {
        let insert = (inside(), kind()).prop_map(|(prefix, kind)| Step::Insert(prefix, kind));
        prop_oneof![2 => insert, 1 => any::<usize>().prop_map(Step::Remove)]
    }

    proptest! {
        #[test]
        fn agrees_with_brute_force(
            steps in proptest::collection::vec(step(), 0..40), loaded in 0usize..40,
            starts in proptest::collection::vec(inside(), 4),
        ) {
            let (mut occupied, mut model) = (Occupied::loading(), Model::default());
            for (n, step) in steps.into_iter().enumerate() {
                if n == loaded {
                    occupied.loaded();
                }
                match step {
                    Step::Insert(prefix, kind) => {
                        occupied.insert(prefix, kind);
                        model.0.push((prefix, kind));
                    }
                    Step::Remove(index) if !model.0.is_empty() => {
                        let (prefix, kind) = model.0.swap_remove(index % model.0.len());
                        occupied.remove(prefix, kind);
                    }
                    Step::Remove(_) => occupied.remove(pool(), Kind::Taken),
                }
            }
            occupied.loaded();
            for among in Among::ALL {
                for start in &starts {
                    prop_assert_eq!(occupied.is_free(*start, among), model.is_free(*start, among));
                    let (len, addr) = (start.len(), start.addr());
                    prop_assert_eq!(occupied.find(pool(), len, among, 0, addr), model.find(len, among, addr));
                    let tightest = occupied.tightest(pool(), len, among);
                    prop_assert_eq!(tightest, model.tightest(len, among));
                    if let Some(block) = tightest {
                        let found = occupied.find(pool(), len, among, block, addr);
                        prop_assert!(found.is_some_and(|it| model.is_free(it, among)), "{:?}", found);
                    }
                }
            }
            let taken = model.0.iter().filter(|(_, kind)| *kind == Kind::Taken).count();
            prop_assert_eq!(occupied.count(pool(), Kind::Taken) as usize, taken);
            for (prefix, kind) in model.0 {
                occupied.remove(prefix, kind);
            }
            prop_assert!(occupied.root.is_none());
        }
    }
}
