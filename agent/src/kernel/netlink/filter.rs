//! Socket filters that drop notifications which nobody needs: 100,000 of them would be 100,000 wake-ups.

use nix::libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use socket2::SockFilter;

use super::route::{RTM_DELROUTE, RTM_NEWROUTE};

/// Offsets of the type and of the sender's port in `struct nlmsghdr`.
const TYPE: u32 = 4;
const PORT: u32 = 12;

/// Drops route changes that were sent from `port`. Each notification is a datagram of its own.
pub fn own_routes(port: u32) -> [SockFilter; 7] {
    [
        instruction(BPF_LD | BPF_H | BPF_ABS, TYPE),
        is_type(RTM_NEWROUTE, 1, 0),
        is_type(RTM_DELROUTE, 0, 2),
        instruction(BPF_LD | BPF_W | BPF_ABS, PORT),
        jump_if(u32::from_be_bytes(port.to_ne_bytes()), 1, 0),
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
