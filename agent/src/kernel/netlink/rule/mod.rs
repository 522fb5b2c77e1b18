//! Rules of the routing policy as netlink messages.

use std::net::Ipv6Addr;

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, rule::RuleMessage};
use sextant_proto::{Prefix, link_name_text};

use super::{
    super::{Rule, RuleAction},
    frame::{Malformed, attribute_values, ipv6_of, u32_of, until_nul},
};

mod further;

/// RTM_NEWRULE.
pub const RTM_NEWRULE: u16 = nix::libc::RTM_NEWRULE;
/// RTM_DELRULE.
pub const RTM_DELRULE: u16 = nix::libc::RTM_DELRULE;
const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
/// FIB_RULE_INVERT of linux/fib_rules.h: the rule matches all other packets.
const FIB_RULE_INVERT: u32 = 2;
// FR_ACT_* of the same.
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;
// FRA_* of the same.
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FLOW: u16 = 11;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// The kernel's value for a rule that suppresses nothing.
const NOTHING: u32 = u32::MAX;

/// The request for a dump of all IPv6 rules.
pub fn dump_rules() -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet6;
    RouteNetlinkMessage::GetRule(message)
}

/// The rule of an RTM_NEWRULE message (`struct fib_rule_hdr`: family, lengths of destination and source, tos, table, two
/// reserved, action, flags); `None` if it is no IPv6 rule.
///
/// # Errors
/// If it is not a rule message at all.
pub fn decode(payload: &[u8]) -> Result<Option<Rule>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<12>()
        .ok_or_else(|| Malformed(format!("{} octets of a rule", payload.len())))?;
    let &[family, to_len, from_len, tos, table, _, _, action, ..] = header;
    if family != AF_INET6 {
        return Ok(None);
    }
    let inverted = u32_of(&header[8..12]).unwrap_or(0) & FIB_RULE_INVERT != 0;
    let mut rule = Rule {
        conditional: tos != 0 || inverted,
        inverted,
        further: further::conditions(tos, attributes),
        ..Rule::default()
    };
    let (mut table, mut goto) = (u32::from(table), 0);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            FRA_DST => rule.to = prefix(value, to_len),
            FRA_SRC => rule.from = prefix(value, from_len),
            FRA_PRIORITY => rule.priority = u32_of(value).unwrap_or(0),
            FRA_TABLE => table = u32_of(value).unwrap_or(table),
            FRA_SUPPRESS_PREFIXLEN => rule.suppress_prefix_len = u32_of(value).filter(|len| *len != NOTHING),
            FRA_GOTO => goto = u32_of(value).unwrap_or(0),
            FRA_IIFNAME => {
                (rule.conditional, rule.iif) = (true, Some(link_name_text(until_nul(value))));
            }
            FRA_FLOW | FRA_PAD | FRA_PROTOCOL => {}
            _ => rule.conditional = true,
        }
    }
    rule.action = match action {
        FR_ACT_TO_TBL => RuleAction::Table(table),
        FR_ACT_GOTO => RuleAction::Goto(goto),
        FR_ACT_UNREACHABLE => RuleAction::Refuse("unreachable"),
        FR_ACT_PROHIBIT => RuleAction::Refuse("prohibit"),
        FR_ACT_BLACKHOLE => RuleAction::Refuse("blackhole"),
        _ => RuleAction::Other,
    };
    Ok(Some(rule))
}

fn prefix(value: &[u8], len: u8) -> Option<Prefix> {
    Prefix::containing(ipv6_of(value).unwrap_or(Ipv6Addr::UNSPECIFIED), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_messages_are_not_rules() {
        assert!(decode(&[AF_INET6; 11]).is_err());
        assert_eq!(decode(&[nix::libc::AF_INET as u8, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn conditional_rules_are_marked() {
        let plain = [AF_INET6, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(
            decode(&plain).unwrap().unwrap(),
            Rule { action: RuleAction::Table(254), ..Rule::default() }
        );
        let mut inverted = plain;
        inverted[8..].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        assert!(decode(&inverted).unwrap().unwrap().conditional);
        // FRA_FWMARK.
        let marked = [&plain[..], &[8, 0, 10, 0, 1, 0, 0, 0]].concat();
        assert!(decode(&marked).unwrap().unwrap().conditional);
    }
}
