//! Which packets wake the process: a classic BPF program over an IPv6 packet. Pure.

use nix::libc;
use sextant_proto::Prefix;
use socket2::SockFilter;

use crate::message::{ADVERTISEMENT, ICMPV6, SOLICITATION};

// Offsets from the start of the IPv6 header.
const NEXT_HEADER: u32 = 6;
const TYPE: u32 = 40;
const TARGET: u32 = 48;
/// Facts about the packet that are not in it are loaded from here on (linux/filter.h): its type, and whether it has a VLAN tag.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const VLAN_TAG: u32 = 0xffff_f000 + 48;
// Packet types (linux/if_packet.h): for this host, and for a group.
const HOST: u32 = 0;
const MULTICAST: u32 = 2;
/// The kernel takes 4,096 instructions; a prefix needs 13 at most.
const MOST_PREFIXES: usize = 256;

/// An instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    LoadByte(u32),
    LoadWord(u32),
    And(u32),
    /// If what was loaded is equal, so many instructions are skipped; else so many.
    Equal(u32, u8, u8),
    Pass,
    Drop,
}

/// Passes neighbour solicitations and advertisements to this host or to a group, without a VLAN tag. With prefixes, only those of
/// a target inside of one: the others, e.g. of a scan of the whole link, cost no wake-up.
pub fn program(prefixes: Option<&[Prefix]>) -> Vec<SockFilter> {
    steps(prefixes).into_iter().map(instruction).collect()
}

fn steps(prefixes: Option<&[Prefix]>) -> Vec<Step> {
    let required = [
        (Step::LoadWord(VLAN_TAG), vec![0]),
        (Step::LoadWord(PACKET_TYPE), vec![HOST, MULTICAST]),
        (Step::LoadByte(NEXT_HEADER), vec![ICMPV6.into()]),
        (Step::LoadByte(TYPE), vec![SOLICITATION.into(), ADVERTISEMENT.into()]),
    ];
    let mut all: Vec<_> = required.iter().flat_map(|(load, values)| one_of(*load, values)).collect();
    match prefixes {
        Some(prefixes) if prefixes.len() <= MOST_PREFIXES => {
            all.extend(prefixes.iter().flat_map(|prefix| pass_inside(*prefix)));
            all.push(Step::Drop);
        }
        _ => all.push(Step::Pass),
    }
    all
}

/// Goes on with one of these values, and drops any other.
fn one_of(load: Step, values: &[u32]) -> Vec<Step> {
    let skipped = (1..=values.len()).rev().filter_map(|left| u8::try_from(left).ok());
    let tests = values.iter().zip(skipped).map(|(value, skipped)| Step::Equal(*value, skipped, 0));
    [load].into_iter().chain(tests).chain([Step::Drop]).collect()
}

/// Passes a target inside of the prefix, and goes on with any other.
fn pass_inside(prefix: Prefix) -> Vec<Step> {
    let mut all = vec![Step::Pass];
    // From the end: a test knows how many instructions come after it.
    for word in (0..4_u8).rev() {
        let bits = prefix.len().saturating_sub(32 * word).min(32);
        let Some(mask) = u32::MAX.checked_shl(32 - u32::from(bits)) else { continue };
        let wanted = u32::try_from(prefix.addr().to_bits() >> (96 - 32 * u32::from(word)) & 0xffff_ffff);
        let after = u8::try_from(all.len()).unwrap_or(u8::MAX);
        let test = Step::Equal(wanted.unwrap_or_default() & mask, 0, after);
        let load = Step::LoadWord(TARGET + 4 * u32::from(word));
        all.splice(0..0, [load, Step::And(mask), test]);
    }
    all
}

fn instruction(step: Step) -> SockFilter {
    let (code, yes, no, operand) = match step {
        Step::LoadByte(at) => (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at),
        Step::LoadWord(at) => (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at),
        Step::And(mask) => (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask),
        Step::Equal(value, yes, no) => (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value),
        Step::Pass => (libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        Step::Drop => (libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    };
    SockFilter::new(code as u16, yes, no, operand)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::message::solicitation;

    /// Runs a program, as the kernel does.
    fn passes(steps: &[Step], packet: &[u8], kind: u32, tagged: bool) -> bool {
        let word = |at: usize| packet.get(at..at + 4).map(|it| u32::from_be_bytes(it.try_into().unwrap()));
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = steps[at];
            at += 1;
            loaded = match step {
                Step::LoadWord(PACKET_TYPE) => kind,
                Step::LoadWord(VLAN_TAG) => tagged.into(),
                // A load beyond the packet drops it.
                Step::LoadByte(at) => match packet.get(at as usize) {
                    Some(octet) => u32::from(*octet),
                    None => return false,
                },
                Step::LoadWord(at) => match word(at as usize) {
                    Some(word) => word,
                    None => return false,
                },
                Step::And(mask) => loaded & mask,
                Step::Equal(value, yes, no) => {
                    at += usize::from(if loaded == value { yes } else { no });
                    loaded
                }
                Step::Pass => return true,
                Step::Drop => return false,
            };
        }
    }

    fn asks(target: Ipv6Addr) -> Vec<u8> {
        solicitation("fe80::1".parse().unwrap(), [2; 6], target)
    }

    #[test]
    fn only_neighbour_discovery_passes() {
        let packet = asks("2001:db8::c003".parse().unwrap());
        let with = |at: usize, value| {
            let mut packet = packet.clone();
            packet[at] = value;
            packet
        };
        for (case, packet, kind, tagged, expected) in [
            ("to a group", packet.clone(), MULTICAST, false, true),
            ("to this host", packet.clone(), HOST, false, true),
            ("to another host", packet.clone(), 3, false, false),
            ("sent by this host", packet.clone(), 4, false, false),
            ("with a VLAN tag", packet.clone(), MULTICAST, true, false),
            ("an advertisement", with(40, ADVERTISEMENT), MULTICAST, false, true),
            ("of a router", with(40, 134), MULTICAST, false, false),
            ("UDP", with(6, 17), MULTICAST, false, false),
            ("cut off", packet[..40].to_vec(), MULTICAST, false, false),
        ] {
            assert_eq!(passes(&steps(None), &packet, kind, tagged), expected, "{case}");
        }
    }

    proptest! {
        #[test]
        fn targets_inside_of_a_prefix_pass(
            prefixes in proptest::collection::vec((any::<u128>(), 1_u8..=128), 0..20),
            target: u128,
            near in any::<Option<(usize, u128)>>(),
        ) {
            let of = |(addr, len): (u128, u8)| Prefix::containing(Ipv6Addr::from(addr), len).unwrap();
            let prefixes: Vec<_> = prefixes.into_iter().map(of).collect();
            let near = near.filter(|_| !prefixes.is_empty()).map(|(which, rest)| {
                let prefix = prefixes[which % prefixes.len()];
                let rest = rest.checked_shr(prefix.len().into()).unwrap_or_default();
                Ipv6Addr::from(prefix.addr().to_bits() | rest)
            });
            let target = near.unwrap_or(Ipv6Addr::from(target));
            let expected = prefixes.iter().any(|prefix| prefix.contains(target));
            prop_assert_eq!(passes(&steps(Some(&prefixes)), &asks(target), MULTICAST, false), expected);
        }
    }
}
