//! The use of an address.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    NodeName, Pool, Prefix,
    convert::{MOST_UPLINKS, MessageError, ndp_address, parse, required},
    ndp::{NdpAddress, NdpUplink},
    quoted, v1,
};

use super::{Node, RouteState};

/// The use of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) address: Ipv6Addr,
    pub(crate) place: Place,
    pub(crate) pool: Option<Pool>,
    pub(crate) reservation: Option<Prefix>,
    /// The node of the reservation; empty: none.
    pub(crate) reserved_for: String,
    /// The reason of the reservation; empty: none.
    pub(crate) reason: String,
    /// The node that held it until recently, and when it was freed.
    pub(crate) freed: Option<(String, u64)>,
    pub(crate) node: Option<Node>,
    /// The running container with the address, and its network, as far as its agent knows.
    pub(crate) container: Option<(String, String)>,
    /// Whether its node answers neighbour solicitations for it, as far as its agent tells, and on which uplinks.
    pub(crate) ndp: Option<(NdpAddress, Vec<NdpUplink>)>,
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
    /// From the answer for this address.
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
        let uplinks = message.ndp_uplinks.into_iter().take(MOST_UPLINKS).map(NdpUplink::from).collect();
        Ok(Self {
            address,
            place,
            pool: message.pool.map(|pool| required("pool", Some(pool))).transpose()?,
            reservation: message.reservation.map(|it| required("reservation", Some(it))).transpose()?,
            reserved_for: message.reserved_for,
            reason: message.reservation_reason,
            freed: Some((message.freed_by, message.freed_unix_ms)).filter(|(node, _)| !node.is_empty()),
            node: message.node.map(|node| required("node", Some(node))).transpose()?,
            container: Some((quoted(&message.container), quoted(&message.container_network)))
                .filter(|(name, _)| !name.is_empty()),
            ndp: message.ndp.and_then(ndp_address).map(|it| (it, uplinks)),
            routes: message.routes.into_iter().map(route).collect::<Result<_, MessageError>>()?,
        })
    }

    /// The nodes with a route to it in this state.
    pub(crate) fn at(&self, wanted: RouteState) -> Vec<NodeName> {
        let some = self.routes.iter().filter(|(_, state, _)| *state == wanted);
        some.map(|(node, ..)| node.clone()).collect()
    }

    /// The nodes whose kernels refused the route, with the errors.
    pub(crate) fn failed(&self) -> Vec<String> {
        let failed = self.routes.iter().filter(|(_, state, _)| *state == RouteState::Failed);
        failed.map(|(node, _, error)| format!("{node}: {error}")).collect()
    }
}
