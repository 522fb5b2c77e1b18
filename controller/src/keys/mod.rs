//! The store's keys (DESIGN §6), under `/sextant/v1/<cluster>/`.
//!
//! Claims and reservations are keyed `<32 hex digits>-<length>`: address order, so that all prefixes inside another one
//! are one range of keys.

mod member;

use std::net::Ipv6Addr;

use sextant_identity::TokenId;
use sextant_proto::{NodeName, PoolName, Prefix};

use crate::registry::{Guard, KeyRange};

pub use member::Member;

/// The sets of prefixes that must not overlap each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Held by a node.
    Claims,
    /// Kept out by an operator.
    Reservations,
}

impl Space {
    fn directory(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Reservations => "reservations",
        }
    }
}

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The store itself.
    Meta,
    /// What holds for all agents.
    Control,
    /// How long the store has been served.
    Elapsed,
    /// A pool.
    Pool(PoolName),
    /// A claim.
    Claim(Prefix),
    /// A reservation.
    Reservation(Prefix),
    /// Announced nodes whose claims ended recently.
    Removals,
    /// The set of reservations.
    ReservationSet,
    /// A prefix in quarantine.
    Freed(Prefix),
    /// A node.
    Node(NodeName),
    /// A node that is revoked.
    Denial(NodeName),
    /// A person or a controller that is revoked.
    MemberDenial(Member),
    /// The key of the host that joined last as a node.
    Identity(NodeName),
    /// The session of a node's agent.
    Session(NodeName),
    /// A controller.
    Controller(String),
    /// A mark of the store's history.
    Mark(u64),
    /// A node's report of history that the store does not have.
    Doubt(NodeName),
    /// The verdict of a controller's agents on a node without an agent.
    Verdict(NodeName, String),
}

/// The keys of one cluster.
#[derive(Debug, Clone)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// The keys of `cluster`.
    pub fn new(cluster: &PoolName) -> Self {
        Self { root: format!("/sextant/v1/{cluster}/") }
    }

    /// All of the cluster's keys.
    pub fn all(&self) -> KeyRange {
        KeyRange::prefix(&self.root)
    }

    /// `meta/store`: the store's incarnation.
    pub fn meta(&self) -> String {
        format!("{}meta/store", self.root)
    }

    /// `meta/control`: put by each pause and resume.
    pub fn control(&self) -> String {
        format!("{}meta/control", self.root)
    }

    /// `meta/removals`: announced nodes whose claims ended recently.
    pub fn removals(&self) -> String {
        format!("{}meta/removals", self.root)
    }

    /// `meta/elapsed`: how long the store has been served.
    pub fn elapsed(&self) -> String {
        format!("{}meta/elapsed", self.root)
    }

    /// `meta/pools`: touched by each change of the set of pools, so that two at once cannot overlook each other.
    pub fn pool_set(&self) -> String {
        format!("{}meta/pools", self.root)
    }

    /// `meta/reservations`: touched by each change of the set of reservations, which every claim guards as a whole.
    pub fn reservation_set(&self) -> String {
        format!("{}meta/reservations", self.root)
    }

    /// `meta/several`: touched by each change that gives a node's record the form for several claims.
    pub fn several_claims(&self) -> String {
        format!("{}meta/several", self.root)
    }

    /// `freed/<address>-<length>`.
    pub fn freed(&self, prefix: Prefix) -> String {
        format!("{}freed/{}", self.root, prefix_key(prefix))
    }

    /// All of `reservations/`.
    pub fn reservations(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}reservations/", self.root))
    }

    /// All of `verdicts/<node>/`.
    pub fn verdicts(&self, node: &NodeName) -> KeyRange {
        KeyRange::prefix(&format!("{}verdicts/{node}/", self.root))
    }

    /// The keys of `space` in `outer` but outside of `inner`, given that none is shorter than `inner`.
    pub fn around(&self, space: Space, outer: Prefix, inner: Prefix) -> [KeyRange; 2] {
        let (outer, inner) = (self.inside(space, outer), self.inside(space, inner));
        [KeyRange { from: outer.from, to: inner.from }, KeyRange { from: inner.to, to: outer.to }]
    }

    /// `pools/<name>`.
    pub fn pool(&self, name: &PoolName) -> String {
        format!("{}pools/{name}", self.root)
    }

    /// All of `pools/`.
    pub fn pools(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}pools/", self.root))
    }

    /// All of `nodes/`.
    pub fn nodes(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}nodes/", self.root))
    }

    /// `nodes/<name>`.
    pub fn node(&self, name: &NodeName) -> String {
        format!("{}nodes/{name}", self.root)
    }

    /// `denied/<name>`.
    pub fn denial(&self, name: &NodeName) -> String {
        format!("{}denied/{name}", self.root)
    }

    /// `denied-admins/<name>` or `denied-controllers/<name>`.
    pub fn member_denial(&self, member: &Member) -> String {
        format!("{}denied-{}s/{}", self.root, member.kind(), member.name())
    }

    /// `sessions/<name>`.
    pub fn session(&self, name: &NodeName) -> String {
        format!("{}sessions/{name}", self.root)
    }

    /// All of `controllers/`.
    pub fn controllers(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}controllers/", self.root))
    }

    /// `controllers/<id>`.
    pub fn controller(&self, id: &str) -> String {
        format!("{}controllers/{id}", self.root)
    }

    /// `verdicts/<node>/<id of the controller>`.
    pub fn verdict(&self, node: &NodeName, controller: &str) -> String {
        format!("{}verdicts/{node}/{controller}", self.root)
    }

    /// `lineage/<random>`, in hex digits.
    pub fn mark(&self, id: u64) -> String {
        format!("{}lineage/{id:016x}", self.root)
    }

    /// All of `lineage/`.
    pub fn marks(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}lineage/", self.root))
    }

    /// `tokens/<id>`.
    pub fn token(&self, id: TokenId) -> String {
        format!("{}tokens/{id}", self.root)
    }

    /// All of `tokens/`.
    pub fn tokens(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}tokens/", self.root))
    }

    /// `identities/<node>`.
    pub fn identity(&self, node: &NodeName) -> String {
        format!("{}identities/{node}", self.root)
    }

    /// `doubts/<node>`.
    pub fn doubt(&self, node: &NodeName) -> String {
        format!("{}doubts/{node}", self.root)
    }

    /// All of `doubts/`.
    pub fn doubts(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}doubts/", self.root))
    }

    /// `audit/<time>-<random>`, both in hex digits: in the order of time.
    pub fn audit_entry(&self, unix_ms: u64, random: u64) -> String {
        format!("{}audit/{unix_ms:016x}-{random:016x}", self.root)
    }

    /// All of `audit/`.
    pub fn audit(&self) -> KeyRange {
        KeyRange::prefix(&format!("{}audit/", self.root))
    }

    /// `claims/<address>-<length>`.
    pub fn claim(&self, prefix: Prefix) -> String {
        self.of_prefix(Space::Claims, prefix)
    }

    /// `reservations/<address>-<length>`.
    pub fn reservation(&self, prefix: Prefix) -> String {
        self.of_prefix(Space::Reservations, prefix)
    }

    /// All keys of `space` whose address is in `prefix`: every prefix inside it, and the shorter ones that begin with it.
    pub fn inside(&self, space: Space, prefix: Prefix) -> KeyRange {
        let edge = |addr: Ipv6Addr| format!("{}{}/{:032x}-", self.root, space.directory(), addr.to_bits());
        KeyRange { from: edge(prefix.addr()), to: format!("{}~", edge(prefix.last_addr())) }
    }

    /// Guards that hold if nothing in `space` overlaps `prefix`, given that nothing there is shorter than `shortest`.
    pub fn nothing_overlaps(&self, space: Space, prefix: Prefix, shortest: u8) -> Vec<Guard> {
        let inside = Guard::RangeAbsent(self.inside(space, prefix));
        let ancestors = (shortest..prefix.len()).filter_map(|len| prefix.ancestor(len));
        let around = ancestors
            .filter(|ancestor| ancestor.addr() != prefix.addr())
            .map(|ancestor| Guard::Absent(self.of_prefix(space, ancestor)));
        std::iter::once(inside).chain(around).collect()
    }

    /// What of `key` follows the cluster's root; `None` if it is of another cluster.
    pub fn relative<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.root)
    }

    /// The key of which [`relative`](Self::relative) is `relative`.
    pub fn absolute(&self, relative: &str) -> String {
        format!("{}{relative}", self.root)
    }

    /// What `key` is about; `None` if it is of no kind that this version knows.
    pub fn parse(&self, key: &str) -> Option<Key> {
        let (directory, name) = key.strip_prefix(&self.root)?.split_once('/')?;
        match directory {
            "meta" => match name {
                "store" => Some(Key::Meta),
                "control" => Some(Key::Control),
                "removals" => Some(Key::Removals),
                "elapsed" => Some(Key::Elapsed),
                "reservations" => Some(Key::ReservationSet),
                _ => None,
            },
            "pools" => name.parse().ok().map(Key::Pool),
            "claims" => parse_prefix(name).map(Key::Claim),
            "reservations" => parse_prefix(name).map(Key::Reservation),
            "freed" => parse_prefix(name).map(Key::Freed),
            "nodes" => name.parse().ok().map(Key::Node),
            "denied" => name.parse().ok().map(Key::Denial),
            "denied-admins" => name.parse().ok().map(|name| Key::MemberDenial(Member::Admin(name))),
            "denied-controllers" => name.parse().ok().map(|name| Key::MemberDenial(Member::Controller(name))),
            "identities" => name.parse().ok().map(Key::Identity),
            "sessions" => name.parse().ok().map(Key::Session),
            "verdicts" => parse_verdict(name),
            "doubts" => name.parse().ok().map(Key::Doubt),
            "lineage" => u64::from_str_radix(name, 16).ok().map(Key::Mark),
            "controllers" => Some(Key::Controller(name.to_owned())),
            _ => None,
        }
    }

    fn of_prefix(&self, space: Space, prefix: Prefix) -> String {
        format!("{}{}/{}", self.root, space.directory(), prefix_key(prefix))
    }
}

fn prefix_key(prefix: Prefix) -> String {
    format!("{:032x}-{}", prefix.addr().to_bits(), prefix.len())
}

fn parse_verdict(text: &str) -> Option<Key> {
    let (node, controller) = text.split_once('/')?;
    Some(Key::Verdict(node.parse().ok()?, controller.to_owned()))
}

fn parse_prefix(text: &str) -> Option<Prefix> {
    let (address, len) = text.split_once('-')?;
    let bits = u128::from_str_radix(address, 16).ok().filter(|_| address.len() == 32)?;
    Prefix::new(Ipv6Addr::from_bits(bits), len.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Keys {
        Keys::new(&"default".parse().unwrap())
    }

    #[test]
    fn keys_read_as_the_design_says() {
        let prefix: Prefix = "2001:db8:1::/64".parse().unwrap();
        assert_eq!(keys().claim(prefix), "/sextant/v1/default/claims/20010db8000100000000000000000000-64");
        assert_eq!(keys().parse(&keys().claim(prefix)), Some(Key::Claim(prefix)));
        assert_eq!(keys().parse(&keys().meta()), Some(Key::Meta));
        let ann: NodeName = "ann".parse().unwrap();
        for member in [Member::Admin(ann.clone()), Member::Controller(ann)] {
            assert_eq!(keys().parse(&keys().member_denial(&member)), Some(Key::MemberDenial(member)));
        }
        let node: NodeName = "host1".parse().unwrap();
        assert_eq!(keys().verdict(&node, "c1"), "/sextant/v1/default/verdicts/host1/c1");
        assert_eq!(keys().parse(&keys().verdict(&node, "c1")), Some(Key::Verdict(node, "c1".into())));
        assert_eq!(keys().parse("/sextant/v1/default/verdicts/host1"), None);
        assert_eq!(keys().parse(&keys().mark(7)), Some(Key::Mark(7)));
        assert!(keys().marks().contains(&keys().mark(u64::MAX)));
        assert_eq!(keys().parse(&keys().freed(prefix)), Some(Key::Freed(prefix)));
        assert_eq!(keys().parse(&keys().reservation_set()), Some(Key::ReservationSet));
        assert_eq!(keys().parse("/sextant/v1/other/meta/store"), None);
        assert_eq!(keys().parse("/sextant/v1/default/claims/2001-64"), None);
    }

    fn near() -> impl Strategy<Value = Prefix> {
        (0u128..16, 120u8..=128).prop_map(|(low, len)| {
            let addr = Ipv6Addr::from_bits((0x2001_0db8 << 96) | (low << 2));
            Prefix::containing(addr, len).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_guards_see_just_the_overlaps(a in near(), b in near()) {
            let other = keys().claim(b);
            let refused = keys().nothing_overlaps(Space::Claims, a, 120).iter().any(|guard| match guard {
                Guard::Absent(key) => *key == other,
                Guard::RangeAbsent(range) => range.contains(&other),
                Guard::Unchanged(..) | Guard::Holds(..) => false,
            });
            prop_assert_eq!(refused, a.overlaps(b));
        }
    }
}
