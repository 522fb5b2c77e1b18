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

/// Checks the effective capabilities in `/proc/self/status`.
///
/// # Errors
/// If CAP_NET_ADMIN is not among them.
pub fn check() -> Result<(), NoCapability> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if has_net_admin(&status) { Ok(()) } else { Err(NoCapability) }
}

fn has_net_admin(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_NET_ADMIN) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_is_found() {
        assert!(has_net_admin("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(has_net_admin("CapEff:\t0000000000001000\n"));
        assert!(!has_net_admin("CapEff:\t0000000000000fff\n"));
        assert!(!has_net_admin(""));
    }
}
