//! What a bridge learns: its forwarding database (bridge(8)), as notifications.

use nix::libc::{AF_BRIDGE, NUD_PERMANENT};

use super::{
    super::Event,
    frame::{Malformed, attribute_values, u32_of},
};

/// RTM_DELNEIGH.
pub const RTM_DELNEIGH: u16 = nix::libc::RTM_DELNEIGH;
/// `NDA_LLADDR` and `NDA_MASTER` of linux/neighbour.h.
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;

/// The end of an entry that a bridge had learnt, of an RTM_DELNEIGH message (`struct ndmsg`: family, padding, interface, state, flags,
/// type); `None` if it is about something else. The address of a port itself is permanent.
///
/// # Errors
/// If it is no neighbour message at all.
pub fn forgotten(payload: &[u8]) -> Result<Option<Event>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<12>()
        .ok_or_else(|| Malformed(format!("{} octets of a bridge's entry", payload.len())))?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if i32::from(header[0]) != AF_BRIDGE || state & NUD_PERMANENT != 0 {
        return Ok(None);
    }
    let (mut mac, mut bridge) = (None, None);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            NDA_LLADDR => mac = value.try_into().ok(),
            NDA_MASTER => bridge = u32_of(value),
            _ => {}
        }
    }
    let port = u32_of(&header[4..8]).unwrap_or(0);
    // Other links than bridges have such entries too.
    Ok(bridge.zip(mac).map(|(bridge, mac)| Event::MacForgotten { bridge, port, mac }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Deleted 02:00:00:00:00:09 dev p1 master br7`, in RTM_DELNEIGH of Linux 6.18 after `ip link set q1 down` of the other end of p1.
    const GONE: [u8; 60] = [
        7, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, // ndmsg
        10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0, // NDA_LLADDR
        8, 0, 9, 0, 2, 0, 0, 0, // NDA_MASTER
        8, 0, 15, 0, 0, 0, 0, 0, // NDA_FLAGS_EXT
        20, 0, 3, 0, 0, 0, 0, 0, 87, 0, 0, 0, 56, 0, 0, 0, 0, 0, 0, 0, // NDA_CACHEINFO
    ];

    #[test]
    fn a_forgotten_address_is_read() {
        let mac = [2, 0, 0, 0, 0, 9];
        assert_eq!(forgotten(&GONE), Ok(Some(Event::MacForgotten { bridge: 2, port: 4, mac })));
        let (mut ports_own, mut neighbour) = (GONE, GONE);
        (ports_own[8], neighbour[0]) = (0x80, 10);
        assert_eq!((forgotten(&ports_own), forgotten(&neighbour)), (Ok(None), Ok(None)));
        assert_eq!(forgotten(&GONE[..24]), Ok(None), "of a link that is no bridge");
        assert!(forgotten(&GONE[..8]).is_err());
    }
}
