//! What runs longer than a test: [`claims`] against harmed servers, [`hands`] on a cluster.

pub mod claims;
pub mod hands;
