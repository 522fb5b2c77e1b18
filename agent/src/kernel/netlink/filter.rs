//! Socket filters that drop notifications which nobody needs: 100,000 of them would be 100,000 wake-ups.

use nix::libc::{AF_BRIDGE, BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use socket2::SockFilter;

use super::{
    fdb::RTM_DELNEIGH,
    neighbour::RTM_NEWNEIGH,
    route::{RTM_DELROUTE, RTM_NEWROUTE},
};

/// Offsets of the type and of the sender's port in `struct nlmsghdr`, and of the family behind it.
const TYPE: u32 = 4;
const PORT: u32 = 12;
const FAMILY: u32 = 16;

/// Drops route changes that were sent from `port`, and news of neighbours but for what bridges have forgotten. Each notification is a
/// datagram of its own.
pub fn host_changes(port: u32) -> [SockFilter; 11] {
    [
        instruction(BPF_LD | BPF_H | BPF_ABS, TYPE),
        is_type(RTM_NEWROUTE, 3, 0),
        is_type(RTM_DELROUTE, 2, 0),
        is_type(RTM_NEWNEIGH, 6, 0),
        is_type(RTM_DELNEIGH, 2, 4),
        instruction(BPF_LD | BPF_W | BPF_ABS, PORT),
        jump_if(u32::from_be_bytes(port.to_ne_bytes()), 3, 2),
        instruction(BPF_LD | BPF_B | BPF_ABS, FAMILY),
        jump_if(AF_BRIDGE as u32, 0, 1),
        instruction(BPF_RET | BPF_K, u32::MAX),
        instruction(BPF_RET | BPF_K, 0),
    ]
}

/// Drops all but notifications of this type.
pub fn only(kind: u16) -> [SockFilter; 4] {
    [
        instruction(BPF_LD | BPF_H | BPF_ABS, TYPE),
        is_type(kind, 0, 1),
        instruction(BPF_RET | BPF_K, u32::MAX),
        instruction(BPF_RET | BPF_K, 0),
    ]
}

/// As [`jump_if`], for the type of a message. BPF reads big-endian numbers, netlink has the host's.
fn is_type(kind: u16, yes: u8, no: u8) -> SockFilter {
    jump_if(u16::from_be_bytes(kind.to_ne_bytes()).into(), yes, no)
}

fn instruction(code: u32, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, operand)
}

/// Skips `yes` instructions if the loaded value is `value`, `no` otherwise.
fn jump_if(value: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, yes, no, value)
}
