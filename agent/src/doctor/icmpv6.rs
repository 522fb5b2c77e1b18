//! Firewall rules that drop ICMPv6 messages which IPv6 does not work without (RFC 4890 §4.3, §4.4). Pure.

use super::checks::Problem;

/// The messages by their names in nft, and what fails without each.
const NEEDED: [(&str, &str); 8] = [
    ("mld-listener-query", SNOOPING),
    ("mld-listener-report", SNOOPING),
    ("mld2-listener-report", SNOOPING),
    ("nd-neighbor-solicit", "peers do not find this host, or this host does not find them"),
    ("nd-neighbor-advert", "peers do not find this host, or this host does not find them"),
    ("packet-too-big", "connections over a path with a smaller MTU hang"),
    ("destination-unreachable", "refused connections hang until they time out"),
    ("time-exceeded", "traces of a path do not work"),
];

const SNOOPING: &str = "a switch or bridge with multicast snooping (RFC 4541) stops to deliver neighbour solicitations to this \
                        host, and its peers lose it";

/// The problem of a rule of `chain`, as `nft list ruleset` prints it.
pub(super) fn of_rule(chain: &str, rule: &str) -> Option<Problem> {
    let drops = rule.split_whitespace().any(|word| matches!(word, "drop" | "reject"));
    let (_, types) = rule.split_once("icmpv6 type ").filter(|_| drops)?;
    // A set, or one type. "!=" accepts the type and drops others.
    let types = match types.trim_start().strip_prefix('{') {
        Some(set) => set.split('}').next()?,
        None => types.split_whitespace().next()?,
    };
    let has = |name: &str| types.split(',').any(|it| it.trim() == name);
    let (name, fails) = NEEDED.iter().find(|(name, _)| has(name))?;
    Some(Problem {
        text: format!("{chain} drops ICMPv6 {name} (\"{rule}\"): {fails}"),
        fix: format!("accept it before that rule: icmpv6 type {name} accept"),
        sysctls: vec![],
        commands: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_drop_needed_messages_are_named() {
        let named = |rule: &str| of_rule("chain x", rule).map(|problem| problem.text);
        for (rule, message) in [
            ("icmpv6 type mld-listener-query drop", "mld-listener-query"),
            ("icmpv6 type nd-neighbor-solicit counter packets 3 bytes 216 drop", "nd-neighbor-solicit"),
            ("iifname \"eth0\" icmpv6 type { echo-request, packet-too-big } drop", "packet-too-big"),
            (
                "icmpv6 type { mld2-listener-report } reject with icmpv6 admin-prohibited",
                "mld2-listener-report",
            ),
        ] {
            let text = named(rule).unwrap_or_default();
            assert!(text.contains(&format!("ICMPv6 {message} ")), "{rule}: {text}");
        }
        for rule in [
            "icmpv6 type mld-listener-query accept",
            "icmpv6 type echo-request drop",
            "icmpv6 type != nd-neighbor-solicit drop",
            "tcp dport 22 drop",
            "icmpv6 type mld-listener-done drop",
        ] {
            assert_eq!(named(rule), None, "{rule}");
        }
    }
}
