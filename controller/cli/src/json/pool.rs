//! Pools and reservations.

use serde::Serialize;
use sextant_proto::{PoolName, Prefix};

use super::filled;
use crate::answer;

/// A pool and its use.
#[derive(Debug, Serialize)]
pub(crate) struct Pool<'a> {
    name: &'a PoolName,
    prefix: Prefix,
    host_len: u8,
    container_len: u8,
    draining: bool,
    claimed: u64,
    capacity: u64,
    reserved: u64,
    quarantined: u64,
}

/// A reservation.
#[derive(Debug, Serialize)]
pub(crate) struct Reservation<'a> {
    prefix: Prefix,
    pool: &'a str,
    node: Option<&'a str>,
    held: bool,
    created_unix_ms: u64,
    reason: &'a str,
}

impl<'a> From<&'a answer::PoolUse> for Pool<'a> {
    fn from(used: &'a answer::PoolUse) -> Self {
        let sextant_proto::Pool { name, prefix, host_len, container_len, draining } = &used.pool;
        Self {
            name,
            prefix: *prefix,
            host_len: *host_len,
            container_len: *container_len,
            draining: *draining,
            claimed: used.claimed,
            capacity: used.capacity,
            reserved: used.reserved,
            quarantined: used.quarantined,
        }
    }
}

impl<'a> From<&'a answer::Reservation> for Reservation<'a> {
    fn from(it: &'a answer::Reservation) -> Self {
        Self {
            prefix: it.prefix,
            pool: &it.pool,
            node: filled(&it.node),
            held: it.claimed,
            created_unix_ms: it.created_unix_ms,
            reason: &it.reason,
        }
    }
}
