//! Checks the privileges of the process.

/// The process may not change the network.
#[derive(Debug, thiserror::Error)]
#[error(
    "this process has no CAP_NET_ADMIN, so it cannot change routes; run it as root, or with \
     AmbientCapabilities=CAP_NET_ADMIN in its systemd unit"
)]
pub struct NoCapability;

/// The number of CAP_NET_ADMIN (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;

/// The number of CAP_NET_RAW.
const CAP_NET_RAW: u32 = 13;

/// Checks the effective capabilities in `/proc/self/status`.
///
/// # Errors
/// If CAP_NET_ADMIN is not among them.
pub fn check() -> Result<(), NoCapability> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if has(&status, CAP_NET_ADMIN) { Ok(()) } else { Err(NoCapability) }
}

/// Whether the process of this `/proc/PID/status` may hear all packets of a link.
pub fn has_net_raw(status: &str) -> bool {
    has(status, CAP_NET_RAW)
}

fn has(status: &str, capability: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << capability) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_is_found() {
        assert!(has("Name:\tx\nCapEff:\t000001ffffffffff\n", CAP_NET_ADMIN));
        assert!(has("CapEff:\t0000000000001000\n", CAP_NET_ADMIN));
        assert!(!has("CapEff:\t0000000000000fff\n", CAP_NET_ADMIN));
        assert!(has_net_raw("CapEff:\t0000000000003000\n") && !has_net_raw("CapEff:\t0000000000001000\n"));
        assert!(!has("", CAP_NET_ADMIN));
    }
}
