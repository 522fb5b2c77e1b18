//! Routes.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{NodeName, Prefix};

use super::filled;
use crate::{
    answer::{self, RouteState, Target},
    export::{Changes, Routes, Towards},
};

/// A route that a node should have.
#[derive(Debug, Serialize)]
pub(crate) struct Route<'a> {
    node: &'a NodeName,
    destination: Prefix,
    target: &'static str,
    next_hop: Option<Ipv6Addr>,
    interface: Option<&'a str>,
    why: &'a str,
    state: RouteState,
    error: Option<&'a str>,
}

impl<'a> From<&'a answer::Route> for Route<'a> {
    fn from(route: &'a answer::Route) -> Self {
        let (target, next_hop) = match route.target {
            Target::NextHop(hop) => ("next_hop", Some(hop)),
            Target::Unreachable => ("unreachable", None),
            Target::LeftToRouter => ("left_to_router", None),
        };
        Self {
            node: &route.node,
            destination: route.destination,
            target,
            next_hop,
            interface: filled(&route.interface),
            why: &route.why,
            state: route.state,
            error: filled(&route.error),
        }
    }
}

/// The routes of a router without an agent.
#[derive(Debug, Serialize)]
pub(crate) struct ExportedRoutes {
    routes: Vec<ExportedRoute>,
    added: Option<Vec<ExportedRoute>>,
    removed: Option<Vec<ExportedRoute>>,
}

/// A route of a router without an agent.
#[derive(Debug, Serialize)]
pub(crate) struct ExportedRoute {
    destination: Prefix,
    next_hop: Option<Ipv6Addr>,
}

impl ExportedRoutes {
    pub(crate) fn new(routes: &Routes, changes: Option<&Changes>) -> Self {
        let one = |(destination, towards): (&Prefix, &Towards)| {
            let next_hop = match towards {
                Towards::Host(hop) => Some(*hop),
                Towards::Discard => None,
            };
            ExportedRoute { destination: *destination, next_hop }
        };
        let some = |all: &Vec<(Prefix, Towards)>| {
            all.iter().map(|(prefix, towards)| one((prefix, towards))).collect()
        };
        Self {
            routes: routes.iter().map(one).collect(),
            added: changes.map(|changes| some(&changes.added)),
            removed: changes.map(|changes| some(&changes.removed)),
        }
    }
}
