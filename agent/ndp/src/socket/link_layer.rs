//! Link-layer addresses as the kernel has them (packet(7)).
#![expect(unsafe_code, reason = "sockaddr_ll and PACKET_ADD_MEMBERSHIP, which no library wraps")]

use std::{io, mem::MaybeUninit, os::fd::AsRawFd};

use nix::libc;
use socket2::{SockAddr, SockAddrStorage, Socket};

use crate::message::Mac;

/// The address to bind to: all IPv6 packets of this interface.
pub(super) fn of_link(link: u32) -> io::Result<SockAddr> {
    address(link, None)
}

/// The address of a neighbour on this interface.
pub(super) fn of_neighbour(link: u32, mac: Mac) -> io::Result<SockAddr> {
    address(link, Some(mac))
}

fn address(link: u32, mac: Option<Mac>) -> io::Result<SockAddr> {
    let mut octets = [0; 8];
    let len = mac.map_or(0, |mac| {
        octets[..mac.len()].copy_from_slice(&mac);
        mac.len()
    });
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let protocol = u16::try_from(libc::ETH_P_IPV6).map_err(io::Error::other)?.to_be();
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(link).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: u8::try_from(len).map_err(io::Error::other)?,
        sll_addr: octets,
    };
    let mut storage = SockAddrStorage::zeroed();
    let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage holds any socket address, and `size` octets of it are a whole sockaddr_ll.
    unsafe {
        *storage.view_as() = address;
        Ok(SockAddr::new(storage, size))
    }
}

/// The link-layer address of a packet's sender; `None` if it is none of Ethernet.
pub(super) fn sender(from: &SockAddr) -> Option<Mac> {
    let whole = usize::try_from(from.len()).is_ok_and(|len| len >= size_of::<libc::sockaddr_ll>());
    if i32::from(from.family()) != libc::AF_PACKET || !whole {
        return None;
    }
    // SAFETY: its family says that it is a sockaddr_ll, and its length that it is a whole one; a storage is aligned for any.
    let address = unsafe { &*from.as_ptr().cast::<libc::sockaddr_ll>() };
    (usize::from(address.sll_halen) == size_of::<Mac>()).then(|| address.sll_addr.first_chunk().copied())?
}

/// The octets that were received.
pub(super) fn initialized(buffer: &[MaybeUninit<u8>], len: usize) -> &[u8] {
    let received = &buffer[..len.min(buffer.len())];
    // SAFETY: recvfrom(2) has written the first `len` octets.
    unsafe { &*(std::ptr::from_ref(received) as *const [u8]) }
}

/// Makes the interface pass multicast packets of groups that nobody here has joined.
pub(super) fn hear_all_groups(socket: &Socket, link: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(link).map_err(io::Error::other)?,
        mr_type: u16::try_from(libc::PACKET_MR_ALLMULTI).map_err(io::Error::other)?,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let size = libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).map_err(io::Error::other)?;
    let value = std::ptr::from_ref(&request).cast();
    // SAFETY: `request` is valid for reading its own size, and the kernel only reads it.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
