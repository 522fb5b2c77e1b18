//! The services of a controller.

use sextant_authority::Authority;

use crate::{
    acks::Acks,
    audit::RefusedCalls,
    backup::{Automatic, Uploads},
    claims::Claims,
    connections::Connections,
    controllers::OtherControllers,
    denials::Denials,
    health::Health,
    index::Index,
    keys::Keys,
    kubernetes::Reviews,
    limits::Usage,
    pools::Pools,
    questions::Questions,
    receipts::Receipts,
    refusals::Refusals,
    registry::SharedRegistry,
    reservations::Reservations,
    sessions::Sessions,
    tokens::Tokens,
    unregistered::RefusedClaims,
};

/// The services of a controller; gRPC calls use them.
#[derive(Clone)]
pub struct Services {
    /// The store.
    pub registry: SharedRegistry,
    /// The store's keys.
    pub keys: Keys,
    /// The view that agents receive.
    pub index: Index,
    /// Claims of nodes.
    pub claims: Claims,
    /// Pools.
    pub pools: Pools,
    /// Automatic backups.
    pub backups: Automatic,
    /// Reservations.
    pub reservations: Reservations,
    /// Join tokens.
    pub tokens: Tokens,
    /// Reviews of service-account tokens, where Kubernetes vouches for hosts.
    pub reviews: Option<Reviews>,
    /// The cluster's own authority, if there is one.
    pub authority: Option<Authority>,
    /// Receipts of claims.
    pub receipts: Receipts,
    /// Refused claims.
    pub refusals: Refusals,
    /// The use of this controller by each member and address.
    pub usage: Usage,
    /// Backups that are being restored.
    pub uploads: Uploads,
    /// Revoked nodes.
    pub denials: Denials,
    /// Refused calls, for the audit.
    pub refused_calls: RefusedCalls,
    /// Refused claims of a lost store.
    pub refused_claims: RefusedClaims,
    /// Sessions of the connected agents.
    pub sessions: Sessions,
    /// The revisions that agents have applied.
    pub acks: Acks,
    /// The other controllers on the same store.
    pub others: OtherControllers,
    /// Whether this controller and its store work together.
    pub health: Health,
    /// Questions to the connected agents.
    pub questions: Questions,
    /// Connections to the gRPC server.
    pub connections: Connections,
    /// The cluster's name.
    pub cluster: String,
}
