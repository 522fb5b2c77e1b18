//! The conditions of a rule other than addresses and the incoming interface, as far as they say something of ordinary packets.
//!
//! An ordinary packet is forwarded or of this host itself, has no mark, traffic class 0, any protocol and any port, and comes
//! from no VRF or tunnel with an id. So a rule for a mark matches none, and one for all but a mark matches all (`wg-quick`).
//! The kernel looks up a forwarded packet without an outgoing interface and as user 0 (`ip6_route_input`): so `oif` matches
//! none, and `uidrange` none unless it begins with 0.

use sextant_proto::link_name_word;

use super::super::{
    super::{Further, Share},
    frame::{attribute_values, u32_of, until_nul},
};

// FRA_* of linux/fib_rules.h.
const FRA_FWMARK: u16 = 10;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FRA_DSCP: u16 = 25;

/// By the traffic class in the header, and the attributes.
pub(super) fn conditions(tos: u8, attributes: &[u8]) -> Further {
    let value_of = |kind| attribute_values(attributes).find(|(it, _)| *it == kind).map(|(_, value)| value);
    let number = |kind| value_of(kind).and_then(u32_of);
    let mut all = Conditions::default();
    if tos != 0 {
        all.add(Share::None, format!("tos {tos:#04x}"));
    }
    let mark = number(FRA_FWMARK).unwrap_or(0);
    if let Some(mask) = number(FRA_FWMASK).filter(|mask| *mask != 0) {
        let share = if mark & mask == 0 { Share::All } else { Share::None };
        all.add(share, format!("fwmark {mark:#x}/{mask:#x}"));
    }
    for (kind, value) in attribute_values(attributes) {
        match kind {
            FRA_OIFNAME => {
                all.add(
                    Share::None,
                    format!("oif {}", link_name_word(&sextant_proto::link_name_text(until_nul(value)))),
                );
            }
            FRA_TUN_ID => all.add(Share::None, String::new()),
            FRA_L3MDEV => all.add(Share::None, "l3mdev".to_owned()),
            FRA_UID_RANGE => {
                let (first, last) = pair(value, u32_of);
                let share = if first == 0 { Share::Some } else { Share::None };
                all.add(share, format!("uidrange {first}-{last}"));
            }
            FRA_IP_PROTO => all.add(Share::Some, format!("ipproto {}", value.first().unwrap_or(&0))),
            FRA_SPORT_RANGE => all.add(Share::Some, format!("sport {}", ports(value))),
            FRA_DPORT_RANGE => all.add(Share::Some, format!("dport {}", ports(value))),
            FRA_DSCP => {
                let class = value.first().unwrap_or(&0);
                let share = if *class == 0 { Share::All } else { Share::None };
                all.add(share, format!("dscp {class}"));
            }
            FRA_SUPPRESS_IFGROUP => all.add(Share::Some, String::new()),
            kind if kind > FRA_DSCP => all.add(Share::Some, String::new()),
            _ => {}
        }
    }
    Further { met_by: all.met_by, words: all.words.join(" ") }
}

#[derive(Default)]
struct Conditions {
    met_by: Share,
    words: Vec<String>,
}

impl Conditions {
    fn add(&mut self, share: Share, words: String) {
        self.met_by = self.met_by.and(share);
        self.words.extend(Some(words).filter(|words| !words.is_empty()));
    }
}

/// The two halves of a value.
fn pair<T: Default>(value: &[u8], number: impl Fn(&[u8]) -> Option<T>) -> (T, T) {
    let (first, last) = value.split_at(value.len() / 2);
    (number(first).unwrap_or_default(), number(last).unwrap_or_default())
}

fn ports(value: &[u8]) -> String {
    let (first, last) = pair(value, |it| Some(u16::from_ne_bytes(it.try_into().ok()?)));
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute, padded.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        super::super::super::frame::push_attribute(kind, value, &mut all);
        all
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &value.to_ne_bytes())
    }

    #[test]
    fn a_condition_says_which_ordinary_packets_meet_it() {
        let mark = |mark, mask| [number(FRA_FWMARK, mark), number(FRA_FWMASK, mask)].concat();
        let users = |first: u32, last: u32| {
            attribute(FRA_UID_RANGE, &[first.to_ne_bytes(), last.to_ne_bytes()].concat())
        };
        let port = attribute(FRA_DPORT_RANGE, &[80u16.to_ne_bytes(), 81u16.to_ne_bytes()].concat());
        for (tos, attributes, share, words) in [
            (0, vec![], Share::All, ""),
            (0x10, vec![], Share::None, "tos 0x10"),
            (0, mark(0xca6c, u32::MAX), Share::None, "fwmark 0xca6c/0xffffffff"),
            (0, mark(0, 0xff), Share::All, "fwmark 0x0/0xff"),
            (0, mark(0, 0), Share::All, ""),
            (0, attribute(FRA_OIFNAME, b"eth1\0"), Share::None, "oif eth1"),
            (0, users(0, 0), Share::Some, "uidrange 0-0"),
            (0, users(1000, 1999), Share::None, "uidrange 1000-1999"),
            (0, [attribute(FRA_IP_PROTO, &[6]), port].concat(), Share::Some, "ipproto 6 dport 80-81"),
            (0, attribute(FRA_L3MDEV, &[1]), Share::None, "l3mdev"),
            (0, attribute(FRA_DSCP, &[0]), Share::All, "dscp 0"),
            (0, number(99, 1), Share::Some, ""),
        ] {
            let found = conditions(tos, &attributes);
            assert_eq!((found.met_by, found.words.as_str()), (share, words));
        }
    }
}
