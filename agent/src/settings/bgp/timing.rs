//! The timing of a BFD session (RFC 5880 §6.8).

use std::time::Duration;

/// The interval and the detection multiplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The transmit and receive interval, once the session is up.
    pub interval: Duration,
    /// The number of packets lost in a row after which the session is down.
    pub multiplier: u8,
}
