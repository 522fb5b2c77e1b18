//! NOTIFICATION messages (RFC 4271 §4.5, RFC 4486, RFC 9003).

use bytes::Bytes;
use rustbgpd_wire::{
    DecodeError, NotificationCode, NotificationMessage,
    notification::{
        cease_subcode, description, encode_shutdown_communication, extract_shutdown_communication,
    },
};

/// Cease, Connection Collision Resolution.
pub(in crate::bgp) fn collision() -> NotificationMessage {
    cease(cease_subcode::CONNECTION_COLLISION_RESOLUTION)
}

/// Cease, Maximum Number of Prefixes Reached.
pub(in crate::bgp) fn too_many_prefixes() -> NotificationMessage {
    cease(cease_subcode::MAX_PREFIXES)
}

fn cease(subcode: u8) -> NotificationMessage {
    NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new())
}

/// An unexpected message in the state OpenSent (RFC 6608).
pub(in crate::bgp) fn unexpected_before_open() -> NotificationMessage {
    NotificationMessage::new(NotificationCode::FsmError, 1, Bytes::new())
}

/// The answer to a message that cannot be decoded.
pub(in crate::bgp) fn answer(error: &DecodeError) -> NotificationMessage {
    let (code, subcode, data) = error.to_notification();
    NotificationMessage::new(code, subcode, data)
}

/// The data of an Administrative Shutdown with this reason (RFC 9003).
pub(in crate::bgp) fn shutdown_communication(reason: &str) -> Bytes {
    encode_shutdown_communication(reason)
}

/// The meaning of a NOTIFICATION, with the reason that an operator gave for a shutdown.
pub(in crate::bgp) fn describe(notification: &NotificationMessage) -> String {
    let meaning = description(notification.code, notification.subcode);
    match extract_shutdown_communication(notification) {
        Ok(Some(reason)) if !reason.is_empty() => format!("{meaning}: {reason}"),
        _ => meaning.to_owned(),
    }
}
