//! All that is known of an address.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    NodeName, Pool, Prefix,
    convert::{MessageError, parse, required},
    v1,
};

use super::{Node, RouteState};

/// All that is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) address: Ipv6Addr,
    pub(crate) place: Place,
    pub(crate) pool: Option<Pool>,
    pub(crate) reservation: Option<Prefix>,
    /// The node that the reservation is for, and why there is one, as far as there are.
    pub(crate) reserved_for: String,
    pub(crate) reason: String,
    /// Who held it a short time ago, and since when nobody does.
    pub(crate) freed: Option<(String, u64)>,
    pub(crate) node: Option<Node>,
    pub(crate) routes: Vec<(NodeName, RouteState, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Nowhere,
    Unclaimed,
    Reserved,
    HostPrefix,
    ContainerPrefix,
    Uplink,
}

impl Explained {
    /// Of the answer about this address.
    pub(crate) fn new(address: Ipv6Addr, message: v1::ExplainResponse) -> Result<Self, MessageError> {
        let place = match message.place() {
            v1::Place::Unspecified | v1::Place::Nowhere => Place::Nowhere,
            v1::Place::Unclaimed => Place::Unclaimed,
            v1::Place::Reserved => Place::Reserved,
            v1::Place::HostPrefix => Place::HostPrefix,
            v1::Place::ContainerPrefix => Place::ContainerPrefix,
            v1::Place::Uplink => Place::Uplink,
        };
        let route = |route: v1::RouteAt| {
            let state = route.state().into();
            Ok((parse("node", &route.node)?, state, route.error))
        };
        Ok(Self {
            address,
            place,
            pool: message.pool.map(|pool| required("pool", Some(pool))).transpose()?,
            reservation: message.reservation.map(|it| required("reservation", Some(it))).transpose()?,
            reserved_for: message.reserved_for,
            reason: message.reservation_reason,
            freed: Some((message.freed_by, message.freed_unix_ms)).filter(|(node, _)| !node.is_empty()),
            node: message.node.map(|node| required("node", Some(node))).transpose()?,
            routes: message.routes.into_iter().map(route).collect::<Result<_, MessageError>>()?,
        })
    }

    /// The nodes where the route to it is in this state.
    pub(crate) fn at(&self, wanted: RouteState) -> Vec<NodeName> {
        let some = self.routes.iter().filter(|(_, state, _)| *state == wanted);
        some.map(|(node, ..)| node.clone()).collect()
    }

    /// The nodes that could not install the route, and why.
    pub(crate) fn failed(&self) -> Vec<String> {
        let failed = self.routes.iter().filter(|(_, state, _)| *state == RouteState::Failed);
        failed.map(|(node, _, error)| format!("{node}: {error}")).collect()
    }
}
