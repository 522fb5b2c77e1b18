//! Rules of the routing policy that take the cluster's packets, as the agent reports them.

use sextant_proto::Prefix;

use super::Engine;
use crate::{
    kernel::{Route, RouteKey, RouteTarget},
    problems::Finding,
    routes::{Known, Place, Policy, is_judged},
};

impl Engine {
    pub(super) fn policy_findings(&self) -> Vec<Finding> {
        let (state, known) = (&self.state, self.planner.known());
        if !is_judged(state.rules()) {
            return Vec::new();
        }
        let pools: Vec<Prefix> = known.pools().map(|pool| pool.prefix).collect();
        let own = self.own();
        let inside = state.links().iter().filter(|link| own.links.contains(&link.index));
        let global = state.addresses().iter().filter(|address| address.global);
        let place = Place {
            own: known.claims.iter().map(|claim| claim.prefix).collect(),
            networks: &own.networks,
            peers: self.peers(&known),
            inside: inside.map(|link| link.name.as_str()).collect(),
            outside: known.uplinks.iter().map(|local| local.uplink.interface.as_str()).collect(),
            addresses: global.filter_map(|it| Prefix::containing(it.addr, 128)).collect(),
        };
        let policy = Policy { rules: state.rules(), table: known.settings.table, others: state.selected() };
        policy.findings(&place.flows(), &pools, state.links())
    }

    /// The prefixes of other nodes, each with our route.
    fn peers(&self, known: &Known<'_>) -> Vec<(Prefix, Option<&RouteTarget>)> {
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
