//! Rules of the routing policy that take the cluster's packets, as the agent reports them.

use std::net::Ipv6Addr;

use sextant_proto::Prefix;

use super::{Engine, conflicts::Own};
use crate::{
    kernel::{Route, RouteKey, RouteTarget},
    problems::Finding,
    routes::{Flow, Known, Place, Policy, Traffic, is_judged},
};

/// Packets of another node, as they arrive at an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arriving {
    pub(crate) from: Ipv6Addr,
    /// The container; none: any of them.
    pub(crate) to: Option<Ipv6Addr>,
}

/// A rule that takes packets, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenPackets {
    pub(crate) finding: Finding,
    /// It takes all of them, whatever their ports.
    pub(crate) all: bool,
}

impl Engine {
    pub(super) fn policy_findings(&self) -> Vec<Finding> {
        if !is_judged(self.state.rules()) {
            return Vec::new();
        }
        let own = self.own();
        self.policy().findings(&self.place(&own).flows(), &self.pools(), self.state.links())
    }

    /// The rules that take packets which arrive from another node, of those to containers in `own`.
    pub(super) fn arriving(&self, own: Prefix, packets: Arriving) -> Vec<TakenPackets> {
        let ours = self.own();
        let place = self.place(&ours);
        let is_meant = |prefix: Prefix| own.covers(prefix) && packets.to.is_none_or(|to| prefix.contains(to));
        let to_containers = |flow: &Flow<'_>| flow.traffic == Traffic::ToContainers;
        let Some(mut flow) = place.flows().into_iter().find(to_containers) else { return Vec::new() };
        flow.sources = Prefix::containing(packets.from, 128).into_iter().collect();
        flow.destinations.retain(|(prefix, _)| is_meant(*prefix));
        let policy = self.policy();
        let flows = std::slice::from_ref(&flow);
        let all = policy.judge(flows).taken.into_iter().map(|taken| flow.is_taken_whole_by(taken.rule));
        let findings = policy.findings(flows, &self.pools(), self.state.links());
        // A rule that is missing takes all of them.
        let all = all.chain(std::iter::repeat(true));
        findings.into_iter().zip(all).map(|(finding, all)| TakenPackets { finding, all }).collect()
    }

    fn pools(&self) -> Vec<Prefix> {
        self.planner.known().pools().map(|pool| pool.prefix).collect()
    }

    fn policy(&self) -> Policy<'_> {
        let (state, table) = (&self.state, self.settings.routes.table);
        Policy { rules: state.rules(), table, others: state.selected() }
    }

    fn place<'a>(&'a self, own: &'a Own) -> Place<'a> {
        let (state, known) = (&self.state, self.planner.known());
        let inside = state.links().iter().filter(|link| own.links.contains(&link.index));
        let global = state.addresses().iter().filter(|address| address.global);
        Place {
            own: known.claims.iter().map(|claim| claim.prefix).collect(),
            networks: &own.networks,
            peers: self.peers(&known),
            inside: inside.map(|link| link.name.as_str()).collect(),
            outside: self.planner.uplinks().iter().map(|local| local.uplink.interface.as_str()).collect(),
            addresses: global.filter_map(|it| Prefix::containing(it.addr, 128)).collect(),
        }
    }

    /// The prefixes of other nodes, each with our route.
    fn peers<'a>(&'a self, known: &Known<'a>) -> Vec<(Prefix, Option<&'a RouteTarget>)> {
        let own = |prefix: &Prefix| known.claims.iter().any(|claim| claim.prefix == *prefix);
        let prefixes = known.view.peers().flat_map(|peer| &peer.claims).map(|claim| claim.prefix);
        let (table, metric) = (known.settings.table, known.settings.metric);
        let route = |destination: Prefix| {
            let target = self.planner.desired().routes.get(&RouteKey { table, destination, metric });
            target.filter(|target| matches!(target, RouteTarget::Via(_)))
        };
        prefixes.filter(|prefix| !own(prefix)).map(|prefix| (prefix, route(prefix))).collect()
    }

    /// Whether another's route is in a table that rules for some packets lead to, and may lead to containers.
    pub(super) fn is_selected(&self, route: &Route) -> bool {
        let to = route.key.destination;
        self.state.is_selected(route.key.table)
            && self.planner.known().pools().any(|pool| pool.prefix.overlaps(to))
    }
}
