//! Soak tests: [`claims`] during faults of controllers and etcd, [`chaos`] on a whole cluster.

pub mod chaos;
pub mod claims;
