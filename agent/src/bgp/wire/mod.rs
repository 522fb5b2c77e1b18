//! The BGP codec: the only folder that names `rustbgpd_wire` (RFC 4271 §4).
//!
//! [`decode`] turns octets into messages, [`routes`] an UPDATE into routes, [`encode`] routes into UPDATE messages.

pub(super) mod decode;
pub(super) mod encode;
pub(super) mod routes;

#[cfg(test)]
mod second;
