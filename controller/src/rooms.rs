//! The parts of a controller, joined.

use crate::{
    acks::Acks, backup::Automatic, claims::Claims, connections::Connections, controllers::OtherControllers,
    health::Health, index::Index, keys::Keys, pools::Pools, questions::Questions, refusals::Refusals,
    registry::SharedRegistry, reservations::Reservations, sessions::Sessions,
};

/// What the services work on.
#[derive(Clone)]
pub struct Rooms {
    /// The store.
    pub registry: SharedRegistry,
    /// The store's keys.
    pub keys: Keys,
    /// What agents see.
    pub index: Index,
    /// Who holds what.
    pub claims: Claims,
    /// What is handed out from.
    pub pools: Pools,
    /// Backups that are taken by themselves.
    pub backups: Automatic,
    /// What is kept out.
    pub reservations: Reservations,
    /// Agents that were granted no prefix.
    pub refusals: Refusals,
    /// Who is there.
    pub sessions: Sessions,
    /// Who has applied what.
    pub acks: Acks,
    /// The other controllers over the same store.
    pub others: OtherControllers,
    /// Whether this controller and its store work together.
    pub health: Health,
    /// What operators ask the agents that are connected here.
    pub questions: Questions,
    /// Who is connected.
    pub connections: Connections,
    /// The cluster's name.
    pub cluster: String,
}
