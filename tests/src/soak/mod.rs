//! What runs longer than a test: [`hands`] on a cluster.

pub mod claims;
pub mod hands;
