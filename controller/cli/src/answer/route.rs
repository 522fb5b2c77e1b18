//! The routes that nodes should have.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    NodeName, Prefix,
    convert::{MessageError, address, parse, required},
    v1,
};

/// The target of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    NextHop(Ipv6Addr),
    Unreachable,
    LeftToRouter,
}

/// The state of a route in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RouteState {
    /// No agent is connected that could report it.
    Unknown,
    Pending,
    Applied,
    Failed,
}

/// A route that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: NodeName,
    pub(crate) destination: Prefix,
    pub(crate) target: Target,
    /// Empty unless the target is a next hop.
    pub(crate) interface: String,
    pub(crate) why: String,
    pub(crate) state: RouteState,
    /// The kernel's error if it failed.
    pub(crate) error: String,
}

impl TryFrom<v1::Route> for Route {
    type Error = MessageError;

    fn try_from(message: v1::Route) -> Result<Self, MessageError> {
        let state = message.state().into();
        Ok(Self {
            node: parse("node", &message.node)?,
            destination: required("destination", message.destination)?,
            target: required("target", message.target)?,
            interface: message.interface,
            why: message.why,
            state,
            error: message.error,
        })
    }
}

impl TryFrom<v1::route::Target> for Target {
    type Error = MessageError;

    fn try_from(target: v1::route::Target) -> Result<Self, MessageError> {
        match target {
            v1::route::Target::NextHop(hop) => {
                address(&hop).map(Self::NextHop).map_err(|error| MessageError::new("next_hop", error))
            }
            v1::route::Target::Unreachable(_) => Ok(Self::Unreachable),
            v1::route::Target::LeftToRouter(_) => Ok(Self::LeftToRouter),
        }
    }
}

impl From<v1::RouteState> for RouteState {
    fn from(state: v1::RouteState) -> Self {
        match state {
            v1::RouteState::Unspecified | v1::RouteState::Unknown => Self::Unknown,
            v1::RouteState::Pending => Self::Pending,
            v1::RouteState::Applied => Self::Applied,
            v1::RouteState::Failed => Self::Failed,
        }
    }
}
