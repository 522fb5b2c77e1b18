//! How fast a session of BFD is (RFC 5880 §6.8).

use std::time::Duration;

/// How often packets are sent and wanted, and how many may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// In both directions, once the session is up.
    pub interval: Duration,
    /// So many may be lost in a row.
    pub multiplier: u8,
}
