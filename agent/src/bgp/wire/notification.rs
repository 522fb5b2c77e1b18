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

/// How soon a session may be tried again after a Cease (RFC 4486 §4, RFC 8538, RFC 9384).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bgp) enum Again {
    /// The cause is over, or passes by itself.
    Soon,
    /// Someone has to change something at the router first.
    Slowly,
}

/// How soon a session may be tried again after this NOTIFICATION.
pub(in crate::bgp) fn again_after(notification: &NotificationMessage) -> Again {
    if notification.code != NotificationCode::Cease {
        return Again::Soon;
    }
    let subcode = match notification.subcode {
        // The data of a Hard Reset are the code and the subcode of its cause.
        HARD_RESET => notification.data.get(1).copied().unwrap_or_default(),
        subcode => subcode,
    };
    match subcode {
        cease_subcode::MAX_PREFIXES
        | cease_subcode::ADMINISTRATIVE_SHUTDOWN
        | cease_subcode::PEER_DECONFIGURED
        | cease_subcode::CONNECTION_REJECTED
        | cease_subcode::OUT_OF_RESOURCES => Again::Slowly,
        _ => Again::Soon,
    }
}

/// Cease, Hard Reset (RFC 8538).
const HARD_RESET: u8 = 9;

/// The meaning of a NOTIFICATION, with the reason that an operator gave for a shutdown.
pub(in crate::bgp) fn describe(notification: &NotificationMessage) -> String {
    let meaning = description(notification.code, notification.subcode);
    match extract_shutdown_communication(notification) {
        Ok(Some(reason)) if !reason.is_empty() => format!("{meaning}: {reason}"),
        _ => meaning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_someone_at_the_router_is_tried_again_slowly() {
        use Again::{Slowly, Soon};
        // Max prefixes, shutdown, de-configured, reset, rejected, other change, collision, out of resources.
        let table = [
            (1, Slowly),
            (2, Slowly),
            (3, Slowly),
            (4, Soon),
            (5, Slowly),
            (6, Soon),
            (7, Soon),
            (8, Slowly),
        ];
        for (subcode, expected) in table {
            assert_eq!(again_after(&cease(subcode)), expected, "{subcode}");
            let hard =
                NotificationMessage::new(NotificationCode::Cease, 9, Bytes::copy_from_slice(&[6, subcode]));
            assert_eq!(again_after(&hard), expected, "hard reset with {subcode}");
        }
        for subcode in [0, 9, 10, 99] {
            assert_eq!(again_after(&cease(subcode)), Soon, "{subcode}");
        }
        let other = NotificationMessage::new(NotificationCode::HoldTimerExpired, 2, Bytes::new());
        assert_eq!(again_after(&other), Soon);
    }
}
