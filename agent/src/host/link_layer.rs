//! The announcement of an uplink's new link-layer address.
//!
//! Peers keep the former address until their neighbour entries fail, which takes some ten seconds. With `ndisc_notify`, the kernel
//! advertises the addresses of a link, so that they replace what neighbours knew, once the link has another link-layer address or
//! comes up (RFC 4861 §7.2.6; `ndisc_netdev_event` in net/ipv6/ndisc.c). Addresses of containers that the NDP proxy answers for are
//! advertised by the responder.

use std::io;

use super::{
    HostSetup, SetupError, drift,
    sysctls::{self, of_interface},
};
use crate::problems::Finding;

const NOTIFY: &str = "ndisc_notify";

/// The interface of `net/ipv6/conf/INTERFACE/ndisc_notify`.
pub(super) fn interface(path: &str) -> Option<&str> {
    path.strip_prefix("net/ipv6/conf/")?.strip_suffix(NOTIFY)?.strip_suffix('/')
}

impl HostSetup {
    /// Lets the kernel announce each uplink's new link-layer address. A host where that cannot be set works without it.
    pub(super) fn announce_link_layer(&mut self) -> Result<(), SetupError> {
        self.found.link_layer.clear();
        for uplink in self.settings.uplinks.clone() {
            let path = of_interface(&uplink, NOTIFY);
            if let Some(error) = self.ensure_optional(&path, |found| found == "0", "1")? {
                self.found.link_layer.push(not_announced(&path, &uplink, &error));
            }
        }
        Ok(())
    }
}

fn not_announced(path: &str, uplink: &str, error: &io::Error) -> Finding {
    Finding::new(
        "link-layer-not-announced",
        format!(
            "{} cannot be set to 1, so peers lose packets for some ten seconds when the MAC address of uplink {uplink} changes: {error}",
            drift::name(path)
        ),
        sysctls::set_elsewhere(path, "1"),
    )
}
