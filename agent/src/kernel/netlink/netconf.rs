//! Changes of forwarding as netlink messages (`struct netconfmsg`: the family and padding, then attributes).

use nix::libc::AF_INET6;

use super::{
    super::Event,
    frame::{Malformed, attribute_values, u32_of},
};

/// RTNLGRP_IPV6_NETCONF: the group of these notifications.
pub const GROUP: u32 = 25;
/// RTM_NEWNETCONF.
pub const RTM_NEWNETCONF: u16 = 80;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// The interface index of `conf.all`.
const ALL: i32 = -1;

/// The change; `None` if it is of `conf.default`, of another family, or not of forwarding.
///
/// # Errors
/// If it is too short.
pub fn decode(payload: &[u8]) -> Result<Option<Event>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<4>()
        .ok_or_else(|| Malformed(format!("{} octets of a network configuration", payload.len())))?;
    if i32::from(header[0]) != AF_INET6 {
        return Ok(None);
    }
    let (mut index, mut forwarding) = (None, None);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            NETCONFA_IFINDEX => index = u32_of(value).map(u32::cast_signed),
            NETCONFA_FORWARDING => forwarding = u32_of(value),
            _ => {}
        }
    }
    let link = match index {
        Some(ALL) => None,
        Some(index) if index > 0 => Some(index.cast_unsigned()),
        _ => return Ok(None),
    };
    Ok(forwarding.map(|value| Event::Forwarding { link, on: value != 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: i32, attribute: u16, value: u32) -> Vec<u8> {
        let mut bytes = vec![10, 0, 0, 0, 8, 0, 1, 0];
        bytes.extend(index.to_ne_bytes());
        bytes.extend([8, 0]);
        bytes.extend(attribute.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn forwarding_of_all_and_of_a_link_is_read_and_nothing_else() {
        let read = |index, attribute, value| decode(&message(index, attribute, value)).unwrap();
        assert_eq!(read(-1, 2, 0), Some(Event::Forwarding { link: None, on: false }));
        assert_eq!(read(7, 2, 1), Some(Event::Forwarding { link: Some(7), on: true }));
        assert_eq!(read(-2, 2, 0), None, "conf.default");
        assert_eq!(read(7, 5, 1), None, "another sysctl");
        assert!(decode(&[10]).is_err());
    }
}
