//! The parameters of one peer's sessions.

use std::{net::Ipv4Addr, time::Duration};

use rustbgpd_fsm::PeerConfig;
use sextant_proto::NodeName;

use crate::{
    bgp::wire::open::IPV6_UNICAST,
    settings::{BgpSettings, NeighbourSettings},
};

/// The parameters of one peer's sessions.
#[derive(Debug, Clone)]
pub(in crate::bgp) struct Config {
    /// The parameters of the state machine.
    pub(super) session: PeerConfig,
    /// Only the neighbour connects.
    pub(super) passive: bool,
    /// The most prefixes that the neighbour may announce.
    pub(super) max_prefixes: usize,
    /// This node, for the reason of a shutdown.
    pub(super) node: NodeName,
}

impl Config {
    /// The parameters of `neighbour`'s sessions.
    pub(in crate::bgp) fn new(
        bgp: &BgpSettings,
        neighbour: &NeighbourSettings,
        router_id: Ipv4Addr,
        node: NodeName,
    ) -> Self {
        let mut session = PeerConfig::new(bgp.local_as, neighbour.remote_as, router_id);
        session.hold_time = neighbour.hold_time;
        // Longer than a connection may take to be made, jitter included.
        session.connect_retry_secs = 10;
        session.families = vec![IPV6_UNICAST];
        session.required_families = session.families.clone();
        session.graceful_restart = neighbour.restart_time > 0;
        session.gr_restart_time = neighbour.restart_time;
        Self { session, passive: neighbour.passive, max_prefixes: neighbour.accept.max, node }
    }

    /// The hold time that this end proposes.
    pub(super) fn hold_time(&self) -> Duration {
        Duration::from_secs(self.session.hold_time.into())
    }
}
