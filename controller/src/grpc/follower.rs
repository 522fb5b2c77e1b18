//! Whose stream it is, and whether it may be opened.

use sextant_proto::{
    NodeName, convert,
    v1::{self, controller_message::Message as ToAgent},
};
use tonic::Status;

use super::{Services, agent::parse_holder, status::malformed};
use crate::claims::{Holder, HolderError, listed};

/// The node of a stream.
pub(super) enum Follower {
    /// A host, which holds claims; with that of the primary one.
    Host(Holder),
    /// A router, which holds none: it only receives and acknowledges.
    Router(NodeName),
}

impl Follower {
    pub(super) fn parse(hello: &v1::Hello) -> Result<Self, Status> {
        match hello.role() {
            v1::Role::Router => Ok(Self::Router(convert::parse("node", &hello.node).map_err(malformed)?)),
            v1::Role::Unspecified => {
                parse_holder(&hello.node, &hello.node_id, hello.epoch.clone()).map(Self::Host)
            }
        }
    }

    pub(super) fn node(&self) -> &NodeName {
        match self {
            Self::Host(holder) => &holder.node,
            Self::Router(name) => name,
        }
    }

    /// Whether it is no revoked node.
    pub(super) fn check_denials(&self, services: &Services) -> Result<(), Status> {
        let node_id = match self {
            Self::Host(holder) => Some(holder.node_id),
            Self::Router(_) => None,
        };
        Ok(services.denials.check(self.node(), node_id)?)
    }

    /// Sessions are keyed by name: a router must not use the name of a host.
    pub(super) fn check_name(&self, services: &Services) -> Result<(), Status> {
        let taken = |name| {
            services.index.read(|state| state.nodes().get(name).map(|node| listed(&node.record.prefixes())))
        };
        match self {
            Self::Router(name) if let Some(prefix) = taken(name) => {
                Err(Status::failed_precondition(format!(
                    "node \"{name}\" is a host that holds {prefix}; give the router a name of its own (--node), \
                 or `sextant node forget {name}`"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The only answer to a host that does not hold the claim of its hello: nobody takes the stream of another node.
    pub(super) async fn fenced(&self, services: &Services) -> Result<Option<v1::ControllerMessage>, Status> {
        let Self::Host(holder) = self else { return Ok(None) };
        match services.claims.verify_by_the_index(holder).await {
            Ok(()) => Ok(None),
            Err(HolderError::Fenced(reason)) => Ok(Some(v1::ControllerMessage {
                message: Some(ToAgent::Fenced(v1::Fenced { reason, epoch: Some(holder.epoch.into()) })),
            })),
            Err(error) => Err(error.into()),
        }
    }

    /// The holder of the claim; an error for a router, which holds none.
    pub(super) fn holder(&self) -> Result<&Holder, Status> {
        match self {
            Self::Host(holder) => Ok(holder),
            Self::Router(name) => Err(Status::invalid_argument(format!(
                "router {name} holds no prefix: it has nothing to announce, and cannot drain"
            ))),
        }
    }
}
