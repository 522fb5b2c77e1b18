//! `[limits]`, checked.

use super::{Invalid, keys::LimitKeys, value};
use crate::limits::Limits;

/// The limits that the keys set.
pub(super) fn limits(keys: &LimitKeys) -> Result<Limits, Invalid> {
    let default = Limits::default();
    let positive = |key: &'static str, number: Option<u32>, default: u32| match number {
        Some(0) => Err(value(key, &0, &"give it 1 or more")),
        number => Ok(number.unwrap_or(default)),
    };
    let shorter_host_len = keys.shorter_host_len.unwrap_or(default.shorter_host_len);
    if shorter_host_len > 126 {
        return Err(value("--limits-shorter-host-len", &shorter_host_len, &"give it 0 to 126"));
    }
    let address_connections = keys.address_connections;
    let given = |number| positive("--limits-address-connections", Some(number), 0);
    Ok(Limits {
        calls: positive("--limits-calls", keys.calls, default.calls)?,
        requests: positive("--limits-requests", keys.requests, default.requests)?,
        connections: positive("--limits-connections", keys.connections, default.connections)?,
        claims: positive("--limits-claims", keys.claims, default.claims)?,
        address_calls: positive("--limits-address-calls", keys.address_calls, default.address_calls)?,
        address_requests: positive(
            "--limits-address-requests",
            keys.address_requests,
            default.address_requests,
        )?,
        address_connections: address_connections.map(given).transpose()?,
        shorter_host_len,
    })
}
