//! A node and its claims.

use std::{net::Ipv6Addr, time::Duration};

use bytes::Bytes;
use prost::Message;
use sextant_proto::{
    ClaimPhase, NodeId, NodeState, PoolName, Prefix, Uplink,
    convert::{self, MOST_ADDRESSES, MessageError},
    store::v1 as stored,
    unix_ms, v1,
};

use super::{Record, RecordError};

/// `nodes/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identity.
    pub node_id: NodeId,
    /// The claims it holds, one per pool; the primary one first. At least one.
    pub claims: Vec<HeldClaim>,
    /// Its state. A ready node is ready for its announced claims.
    pub state: NodeState,
    /// As announced.
    pub uplinks: Vec<Uplink>,
    /// When it entered its state.
    pub since_unix_ms: u64,
    /// How long it waits for its peers when it drains.
    pub drain_timeout: Duration,
    /// Who had not withdrawn when it drained.
    pub laggards: Vec<String>,
    /// When its stopped agent was declared lost; 0 while it is connected, or if it was not stopped.
    pub stopped_unix_ms: u64,
}

/// A claim of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClaim {
    /// The host prefix.
    pub prefix: Prefix,
    /// The pool of that.
    pub pool: PoolName,
    /// As announced.
    pub container_prefixes: Vec<Prefix>,
    /// The host is set up for it.
    pub announced: bool,
    /// Whether new addresses are taken from it.
    pub phase: ClaimPhase,
}

impl HeldClaim {
    /// A new claim.
    pub fn new(prefix: Prefix, pool: PoolName) -> Self {
        Self { prefix, pool, container_prefixes: Vec::new(), announced: false, phase: ClaimPhase::Current }
    }
}

impl NodeRecord {
    /// A node that has just been granted its first claim.
    pub fn new(node_id: NodeId, claim: HeldClaim) -> Self {
        Self {
            node_id,
            claims: vec![claim],
            state: NodeState::Joining,
            uplinks: Vec::new(),
            since_unix_ms: unix_ms(),
            drain_timeout: Duration::ZERO,
            laggards: Vec::new(),
            stopped_unix_ms: 0,
        }
    }

    /// Its next hops for peers, best first.
    pub fn next_hops(&self) -> Vec<Ipv6Addr> {
        let addresses = self.uplinks.iter().flat_map(|uplink| &uplink.addresses).map(|address| address.addr);
        // A record from before announcements were limited may have any number.
        addresses.take(MOST_ADDRESSES).collect()
    }

    /// Its claim in a pool.
    pub fn claim_in(&self, pool: &PoolName) -> Option<&HeldClaim> {
        self.claims.iter().find(|claim| claim.pool == *pool)
    }

    /// Its claim of a host prefix.
    pub fn claim_of(&self, prefix: Prefix) -> Option<&HeldClaim> {
        self.claims.iter().find(|claim| claim.prefix == prefix)
    }

    /// The host prefixes of all its claims.
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.claims.iter().map(|claim| claim.prefix).collect()
    }

    /// Its state for one of its claims.
    pub fn state_for(&self, claim: &HeldClaim) -> NodeState {
        match self.state {
            NodeState::Ready if !claim.announced => NodeState::Joining,
            state => state,
        }
    }

    /// Enters a state. A node that is joining announces each claim anew.
    pub fn enter(&mut self, state: NodeState) {
        self.state = state;
        self.since_unix_ms = unix_ms();
        if state == NodeState::Joining {
            self.claims.iter_mut().for_each(|claim| claim.announced = false);
        }
    }

    /// The node with its claims in the order of its agent's pools; those of other pools last. Without an order, they stay as they
    /// are: in that in which they were granted.
    #[must_use]
    pub fn in_order(mut self, order: &[PoolName]) -> Self {
        self.claims.sort_by_key(|claim| claim.pool.place_in(order));
        self
    }

    /// The node with another claim, its only one in that pool.
    #[must_use]
    pub fn with_claim(&self, claim: HeldClaim) -> Self {
        let mut node = self.clone();
        node.claims.retain(|other| other.pool != claim.pool);
        node.claims.push(claim);
        node
    }

    /// The node with `claim` in place of that of the prefix `from`. A drained node comes back with it.
    #[must_use]
    pub fn moved(&self, from: Prefix, claim: HeldClaim) -> Self {
        let mut node = self.clone();
        node.claims.iter_mut().filter(|held| held.prefix == from).for_each(|held| *held = claim.clone());
        if matches!(node.state, NodeState::Draining | NodeState::Drained) {
            node.laggards.clear();
            node.enter(NodeState::Joining);
        }
        node
    }

    /// The node without some of its claims; `None` if it has no other.
    pub fn without(&self, ended: &[Prefix]) -> Option<Self> {
        let mut node = self.clone();
        node.claims.retain(|claim| !ended.contains(&claim.prefix));
        if node.state == NodeState::Ready && node.claims.iter().all(|claim| !claim.announced) {
            node.enter(NodeState::Joining);
        }
        (!node.claims.is_empty()).then_some(node)
    }

    /// Whether controllers from before claims of several pools can read the record.
    pub fn is_of_first_form(&self) -> bool {
        self.only_claim().is_some()
    }

    /// The only claim, if the form of records before claims of several pools says everything about it.
    fn only_claim(&self) -> Option<&HeldClaim> {
        let [claim] = &self.claims[..] else { return None };
        let known = claim.announced == (self.state != NodeState::Joining)
            && claim.container_prefixes.len() <= 1
            && claim.phase == ClaimPhase::Current;
        known.then_some(claim)
    }
}

impl Record for NodeRecord {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let message: stored::Node = Message::decode(value)?;
        let state = message.state().try_into()?;
        let claims = if message.claims.is_empty() {
            vec![only_claim(message.prefix, &message.pool, message.container_prefix, state)?]
        } else {
            message.claims.into_iter().map(held_claim).collect::<Result<_, _>>()?
        };
        Ok(Self {
            node_id: convert::id("node_id", &message.node_id)?,
            claims,
            state,
            uplinks: convert::all("uplinks", message.uplinks)?,
            since_unix_ms: message.since_unix_ms,
            drain_timeout: Duration::from_millis(message.drain_timeout_ms),
            laggards: message.laggards,
            stopped_unix_ms: message.stopped_unix_ms,
        })
    }

    fn encode(&self) -> Bytes {
        let only = self.only_claim();
        let several = self.claims.iter().filter(|_| only.is_none());
        let message = stored::Node {
            node_id: self.node_id.into(),
            prefix: only.map(|claim| claim.prefix.into()),
            pool: only.map(|claim| claim.pool.to_string()).unwrap_or_default(),
            container_prefix: only.and_then(|claim| claim.container_prefixes.first()).map(|it| (*it).into()),
            claims: several.map(stored_claim).collect(),
            state: v1::NodeState::from(self.state).into(),
            uplinks: self.uplinks.iter().map(Into::into).collect(),
            since_unix_ms: self.since_unix_ms,
            drain_timeout_ms: u64::try_from(self.drain_timeout.as_millis()).unwrap_or(u64::MAX),
            laggards: self.laggards.clone(),
            stopped_unix_ms: self.stopped_unix_ms,
        };
        message.encode_to_vec().into()
    }
}

/// The claim of a record that has one.
fn only_claim(
    prefix: Option<v1::Prefix>,
    pool: &str,
    container_prefix: Option<v1::Prefix>,
    state: NodeState,
) -> Result<HeldClaim, MessageError> {
    let container_prefix = container_prefix.map(|it| convert::required("container_prefix", Some(it)));
    Ok(HeldClaim {
        prefix: convert::required("prefix", prefix)?,
        pool: convert::parse("pool", pool)?,
        container_prefixes: container_prefix.transpose()?.into_iter().collect(),
        announced: state != NodeState::Joining,
        phase: ClaimPhase::Current,
    })
}

fn held_claim(message: stored::HeldClaim) -> Result<HeldClaim, MessageError> {
    Ok(HeldClaim {
        phase: message.phase().try_into()?,
        prefix: convert::required("prefix", message.prefix)?,
        pool: convert::parse("pool", &message.pool)?,
        container_prefixes: convert::all("container_prefixes", message.container_prefixes)?,
        announced: message.announced,
    })
}

fn stored_claim(claim: &HeldClaim) -> stored::HeldClaim {
    stored::HeldClaim {
        prefix: Some(claim.prefix.into()),
        pool: claim.pool.to_string(),
        container_prefixes: claim.container_prefixes.iter().map(|it| (*it).into()).collect(),
        announced: claim.announced,
        phase: v1::ClaimPhase::from(claim.phase).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(prefix: &str, pool: &str) -> HeldClaim {
        HeldClaim::new(prefix.parse().unwrap(), pool.parse().unwrap())
    }

    fn ready() -> NodeRecord {
        let announced = HeldClaim {
            container_prefixes: vec!["2001:db8:1::/80".parse().unwrap()],
            announced: true,
            ..claim("2001:db8:1::/64", "main")
        };
        NodeRecord {
            state: NodeState::Ready,
            drain_timeout: Duration::from_secs(3),
            laggards: vec!["host2".into()],
            ..NodeRecord::new(NodeId::random(), announced)
        }
    }

    #[test]
    fn a_node_round_trips_with_one_claim_and_with_several() {
        let one = ready();
        let two = one.with_claim(claim("fd00:1::/64", "ula"));
        let mut with_two_bridges = one.clone();
        with_two_bridges.claims[0].container_prefixes.push("2001:db8:1:0:1::/80".parse().unwrap());
        let mut deprecated = one.clone();
        deprecated.claims[0].phase = ClaimPhase::Deprecated;
        for record in [one, two, with_two_bridges, deprecated] {
            assert_eq!(NodeRecord::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn who_knows_of_one_claim_only_reads_a_record_of_one_and_refuses_one_of_several() {
        let message: stored::Node = Message::decode(&ready().encode()[..]).unwrap();
        assert!(message.prefix.is_some() && message.claims.is_empty());
        let several = ready().with_claim(claim("fd00:1::/64", "ula"));
        let message: stored::Node = Message::decode(&several.encode()[..]).unwrap();
        assert!(message.prefix.is_none(), "without it, earlier versions cannot read the record");
    }

    #[test]
    fn claims_are_in_the_order_of_the_agents_pools_or_of_their_age() {
        let node = ready().with_claim(claim("fd00:1::/64", "ula")).with_claim(claim("fd00:2::/64", "lab"));
        let ordered = |order: &[&str]| {
            let order: Vec<PoolName> = order.iter().map(|pool| pool.parse().unwrap()).collect();
            let node = node.clone().in_order(&order);
            node.claims.iter().map(|claim| claim.pool.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ordered(&[]), "main ula lab", "an agent that does not tell its order");
        assert_eq!(ordered(&["lab", "main", "ula"]), "lab main ula");
        assert_eq!(
            ordered(&["ula", "gone"]),
            "ula main lab",
            "pools that the settings no longer name come last"
        );
    }

    #[test]
    fn the_end_of_one_claim_touches_no_other() {
        let one = ready();
        let node = one.with_claim(claim("fd00:1::/64", "ula"));
        assert_eq!(node.without(&[node.claims[1].prefix]), Some(one));
        let left = node.without(&[node.claims[0].prefix]).unwrap();
        assert_eq!(
            (left.state, left.claims.len()),
            (NodeState::Joining, 1),
            "the other is not announced yet"
        );
        assert_eq!(node.without(&node.prefixes()), None);
    }

    #[test]
    fn a_node_is_ready_for_what_it_has_announced() {
        let node = ready().with_claim(claim("fd00:1::/64", "ula"));
        let states =
            |node: &NodeRecord| -> Vec<_> { node.claims.iter().map(|claim| node.state_for(claim)).collect() };
        assert_eq!(states(&node), [NodeState::Ready, NodeState::Joining]);
        let draining = NodeRecord { state: NodeState::Draining, ..node };
        assert_eq!(states(&draining), [NodeState::Draining; 2], "a drain covers all claims");
    }
}
