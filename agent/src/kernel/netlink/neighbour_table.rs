//! The size and the limits of the neighbour table (`ip ntable`), which a network namespace may read although its sysctls
//! belong to the machine's initial one.
//!
//! The first message of the dump describes the table; one for each link of the namespace follows. So a socket of its own reads
//! the first datagram, and is closed.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc::{AF_INET6, MSG_DONTWAIT, RTM_GETNEIGHTBL, RTM_NEWNEIGHTBL};

use super::{
    super::{KernelError, NeighbourTable},
    conversation::broken,
    frame::{Malformed, Message, attribute_values, frames, u32_of, until_nul},
};

/// The attributes and structures of linux/neighbour.h.
const NDTA_NAME: u16 = 1;
const NDTA_THRESH2: u16 = 3;
const NDTA_THRESH3: u16 = 4;
const NDTA_CONFIG: u16 = 5;
const NDTA_STATS: u16 = 7;
/// The offset of `ndtc_entries` in `struct ndt_config`.
const ENTRIES: usize = 4;
/// The index of `ndts_res_failed` in `struct ndt_stats`, and of `ndts_table_fulls` (since Linux 4.3).
const RES_FAILED: usize = 3;
const TABLE_FULLS: usize = 10;

const NLM_F_REQUEST_DUMP: u16 = 0x301;
/// The kernel's datagrams of a dump are not longer.
const DATAGRAM: usize = 32 << 10;

/// Reads the IPv6 table. A kernel that does not show it answers with an error message, or not at all.
pub fn read() -> Result<Option<NeighbourTable>, KernelError> {
    let datagram = match first_datagram() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        read => read.map_err(|error| broken("read the neighbour table", &error))?,
    };
    decode(&datagram).map_err(|error| KernelError::Broken(error.to_string()))
}

/// The kernel has queued it when the request is sent.
fn first_datagram() -> io::Result<Vec<u8>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let mut request = Vec::new();
    let message = Message::begin(&mut request, RTM_GETNEIGHTBL, NLM_F_REQUEST_DUMP, 1);
    // struct ndtmsg: the family, and padding.
    message.buffer.extend([AF_INET6 as u8, 0, 0, 0]);
    message.end();
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    socket.recv(&mut datagram, MSG_DONTWAIT)?;
    Ok(datagram)
}

/// The table in a datagram of the dump.
fn decode(datagram: &[u8]) -> Result<Option<NeighbourTable>, Malformed> {
    for frame in frames(datagram) {
        let frame = frame?;
        let attributes = frame.payload.get(4..).filter(|_| frame.kind == RTM_NEWNEIGHTBL);
        if let Some(table) = attributes.and_then(table) {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn table(attributes: &[u8]) -> Option<NeighbourTable> {
    let (mut found, mut is_ipv6, mut has_entries) = (NeighbourTable::default(), false, false);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            NDTA_NAME => is_ipv6 = until_nul(value) == b"ndisc_cache",
            NDTA_THRESH2 => found.soft_limit = u32_of(value)?,
            NDTA_THRESH3 => found.limit = u32_of(value)?,
            NDTA_CONFIG => {
                found.entries = u32_of(value.get(ENTRIES..ENTRIES + 4)?)?;
                has_entries = true;
            }
            NDTA_STATS => {
                found.failed = counter(value, RES_FAILED).unwrap_or(0);
                found.refused = counter(value, TABLE_FULLS).unwrap_or(0);
            }
            _ => {}
        }
    }
    (is_ipv6 && has_entries).then_some(found)
}

fn counter(stats: &[u8], index: usize) -> Option<u64> {
    let octets = stats.get(index * 8..index * 8 + 8)?;
    Some(u64::from_ne_bytes(octets.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::frame::push_attribute, *};

    fn message(name: &[u8], stats: &[u64]) -> Vec<u8> {
        let mut datagram = Vec::new();
        let message = Message::begin(&mut datagram, RTM_NEWNEIGHTBL, 2, 1);
        message.buffer.extend([AF_INET6 as u8, 0, 0, 0]);
        push_attribute(NDTA_NAME, name, message.buffer);
        for (kind, value) in [(2, 128u32), (NDTA_THRESH2, 512), (NDTA_THRESH3, 1024)] {
            push_attribute(kind, &value.to_ne_bytes(), message.buffer);
        }
        // key_len 16, entry_size 344, 12 entries
        push_attribute(NDTA_CONFIG, &[16, 0, 0x58, 1, 12, 0, 0, 0, 0, 0, 0, 0], message.buffer);
        let stats: Vec<_> = stats.iter().flat_map(|it| it.to_ne_bytes()).collect();
        push_attribute(NDTA_STATS, &stats, message.buffer);
        message.end();
        datagram
    }

    #[test]
    fn the_table_is_read_also_where_a_kernel_has_fewer_counters() {
        let expected = NeighbourTable { entries: 12, soft_limit: 512, limit: 1024, failed: 3, refused: 10 };
        let all: Vec<u64> = (0..11).collect();
        assert_eq!(decode(&message(b"ndisc_cache\0", &all)), Ok(Some(expected)));
        let old = decode(&message(b"ndisc_cache\0", &all[..10])).unwrap();
        assert_eq!(old, Some(NeighbourTable { refused: 0, ..expected }));
        assert_eq!(decode(&message(b"arp_cache\0", &all)), Ok(None));
        assert_eq!(decode(&[]), Ok(None));
        assert!(decode(&[0; 8]).is_err());
    }
}
