//! The BGP codec: the only folder that names `rustbgpd_wire` (RFC 4271 §4).
//!
//! [`decode`] turns octets into messages, [`routes`] an UPDATE into routes, [`encode`] routes into UPDATE messages; [`open`] and
//! [`notification`] have what this speaker sends in these two messages.

pub(super) mod decode;
pub(super) mod encode;
pub(super) mod notification;
pub(super) mod open;
pub(super) mod routes;

pub(super) use rustbgpd_wire::{
    DecodeError, Message, NotificationCode, NotificationMessage, OpenMessage, UpdateMessage,
};

#[cfg(any(test, feature = "fake"))]
pub(super) mod fuzzing;
#[cfg(test)]
mod second;
