//! What this speaker says of itself in its OPEN message. Pure.

use std::net::Ipv4Addr;

use rustbgpd_fsm::PeerConfig;
use rustbgpd_wire::{Afi, Capability, OpenMessage, Safi};

use crate::settings::{BgpSettings, NeighbourSettings};

/// What the agent that starts says of itself (RFC 4724).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::bgp) struct Restart {
    /// An agent before this one has had sessions.
    pub(in crate::bgp) restarted: bool,
    /// What it forwarded, the host forwards still.
    pub(in crate::bgp) preserved: bool,
}

/// What the state machine is to offer and to ask for.
pub(in crate::bgp) fn config(
    bgp: &BgpSettings,
    neighbour: &NeighbourSettings,
    router_id: Ipv4Addr,
) -> PeerConfig {
    let mut config = PeerConfig::new(bgp.local_as, neighbour.remote_as, router_id);
    config.hold_time = neighbour.hold_time;
    // Longer than a connection may take to be made, jitter and all.
    config.connect_retry_secs = 10;
    config.families = vec![(Afi::Ipv6, Safi::Unicast)];
    config.required_families = config.families.clone();
    config.graceful_restart = neighbour.restart_time > 0;
    config.gr_restart_time = neighbour.restart_time;
    config
}

impl Restart {
    /// What the state machine cannot know, or offers and this speaker does not do.
    pub(in crate::bgp) fn amend(self, mut open: OpenMessage) -> OpenMessage {
        let spoken =
            |it: &Capability| !matches!(it, Capability::ExtendedMessage | Capability::EnhancedRouteRefresh);
        open.capabilities.retain(spoken);
        for capability in &mut open.capabilities {
            if let Capability::GracefulRestart { restart_state, notification, families, .. } = capability {
                *restart_state = self.restarted;
                // A host that is silent for the hold time is gone: its routes are not to be kept (RFC 8538 would).
                *notification = false;
                for family in families {
                    family.forwarding_preserved = self.preserved;
                }
            }
        }
        open
    }
}
