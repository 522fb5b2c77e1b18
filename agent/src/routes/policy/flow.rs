//! The packets of the cluster that this host routes. Pure.

use std::fmt;

use sextant_proto::Prefix;

use super::super::Entry;
use crate::kernel::{RouteTarget, Rule, Share};

/// A kind of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// From containers to other nodes.
    FromContainers,
    /// From other nodes to containers.
    ToContainers,
    /// From this host to containers, here or at other nodes.
    FromHost,
    /// Through this host, a router, to nodes.
    ToNodes,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromContainers => "packets of containers to other nodes",
            Self::ToContainers => "packets of other nodes to containers",
            Self::FromHost => "packets of this host to containers",
            Self::ToNodes => "packets to nodes",
        })
    }
}

/// Packets of one kind.
#[derive(Debug, Clone)]
pub struct Flow<'a> {
    /// The kind.
    pub traffic: Traffic,
    /// The prefixes that they come from.
    pub sources: Vec<Prefix>,
    /// The interfaces that they come in by.
    pub interfaces: Vec<&'a str>,
    /// The prefixes that they go to, each with the target of the route that leads there; none where another router decides.
    pub destinations: Vec<(Prefix, Option<&'a RouteTarget>)>,
}

impl Flow<'_> {
    /// Whether a rule matches all of these packets, whatever their destination.
    pub fn is_taken_whole_by(&self, rule: &Rule) -> bool {
        let share = self.share(rule);
        (if rule.inverted { share.inverted() } else { share }) == Share::All
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty() || self.interfaces.is_empty() || self.destinations.is_empty()
    }

    /// The share of these packets that a rule matches, whatever their destination and without its inversion.
    pub(super) fn share(&self, rule: &Rule) -> Share {
        let by_interface = rule.iif.as_ref().map_or(Share::All, |iif| {
            part(self.interfaces.iter().map(|it| if it == iif { Share::All } else { Share::None }))
        });
        let by_source = rule.from.map_or(Share::All, |from| {
            part(self.sources.iter().map(|source| match source {
                source if from.covers(*source) => Share::All,
                source if source.covers(from) => Share::Some,
                _ => Share::None,
            }))
        });
        // A program that has not chosen a source address is matched by none yet (FIB_RULE_FIND_SADDR).
        let unbound = self.traffic == Traffic::FromHost && by_source != Share::None && rule.from.is_some();
        let by_source = if unbound { Share::Some } else { by_source };
        by_interface.and(by_source).and(rule.further.met_by)
    }
}

/// The share of all, by those of parts.
fn part(mut parts: impl Iterator<Item = Share>) -> Share {
    let first = parts.next().unwrap_or_default();
    if parts.all(|part| part == first) { first } else { Share::Some }
}

/// This host's place in the cluster.
#[derive(Debug, Clone, Default)]
pub struct Place<'a> {
    /// Its host prefixes. A router has none.
    pub own: Vec<Prefix>,
    /// The networks of its containers.
    pub networks: &'a [Entry],
    /// The prefixes of other nodes, each with the target of our route.
    pub peers: Vec<(Prefix, Option<&'a RouteTarget>)>,
    /// The names of the interfaces that containers are on.
    pub inside: Vec<&'a str>,
    /// The names of the uplinks.
    pub outside: Vec<&'a str>,
    /// Its addresses.
    pub addresses: Vec<Prefix>,
}

impl<'a> Place<'a> {
    /// The packets that it routes.
    pub fn flows(&self) -> Vec<Flow<'a>> {
        let networks = || self.networks.iter().map(|(key, target)| (key.destination, Some(target)));
        let hops = self.peers.iter().filter_map(|(_, target)| match target {
            Some(RouteTarget::Via(hops)) => {
                Some(hops.iter().filter_map(|hop| Prefix::containing(hop.gateway?, 128)))
            }
            _ => None,
        });
        let others: Vec<_> = self.peers.iter().map(|(prefix, _)| *prefix).chain(hops.flatten()).collect();
        let flow = |traffic, sources: &[Prefix], interfaces: &[&'a str], destinations| Flow {
            traffic,
            sources: sources.to_vec(),
            interfaces: interfaces.to_vec(),
            destinations,
        };
        let to_all = self.peers.iter().copied().chain(networks()).collect();
        let mut flows = vec![
            flow(Traffic::FromContainers, &self.own, &self.inside, self.peers.clone()),
            flow(Traffic::ToContainers, &others, &self.outside, networks().collect()),
            flow(Traffic::FromHost, &self.addresses, &["lo"], to_all),
        ];
        if self.own.is_empty() {
            flows.push(flow(Traffic::ToNodes, &others, &self.outside, self.peers.clone()));
        }
        flows
    }
}
