//! OPEN messages (RFC 4271 §4.2): the capabilities that this speaker has.

use rustbgpd_wire::{Afi, Capability, OpenMessage, Safi};

/// The one address family of this speaker.
pub(in crate::bgp) const IPV6_UNICAST: (Afi, Safi) = (Afi::Ipv6, Safi::Unicast);

/// The flags of the graceful restart capability (RFC 4724 §3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::bgp) struct Restart {
    /// The restart state: an agent before this one has had sessions.
    pub(in crate::bgp) restarted: bool,
    /// The forwarding state: the host still forwards as that agent had it forward.
    pub(in crate::bgp) preserved: bool,
}

impl Restart {
    /// Sets the flags in `open`, and takes out the capabilities that the state machine offers and this speaker does not have.
    pub(in crate::bgp) fn amend(self, mut open: OpenMessage) -> OpenMessage {
        let supported =
            |it: &Capability| !matches!(it, Capability::ExtendedMessage | Capability::EnhancedRouteRefresh);
        open.capabilities.retain(supported);
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
