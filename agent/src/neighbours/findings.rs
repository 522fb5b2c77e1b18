//! The problems of the neighbour table, with their fixes. Pure.

use std::time::Duration;

use super::pressure::{CROWDED, Unanswered};
use crate::{kernel::NeighbourTable, problems::Finding};

/// No higher limit is proposed.
const MAX_LIMIT: u32 = 65_536;

/// So many links are listed.
const LISTED: usize = 3;

/// The kernel has refused `count` entries in this time; these links are crowded.
pub(super) fn full(table: &NeighbourTable, count: u64, within: Duration, crowded: &[&Unanswered]) -> Finding {
    let within = match within.as_secs() {
        0 => String::new(),
        seconds => format!(" in {seconds} s"),
    };
    let links: Vec<_> = crowded.iter().take(LISTED).map(|it| it.link.as_str()).collect();
    let (filled_by, search) = match &links[..] {
        [] => (
            "no link of this host has many unanswered addresses, so other network namespaces fill it".to_owned(),
            "find the container that sends to unused addresses of its own link: `ip -6 neighbour show nud incomplete` in its \
             network namespace"
                .to_owned(),
        ),
        links => (
            format!("filled by unanswered addresses on {}", links.join(", ")),
            "stop the packets to unused addresses, as said for each link".to_owned(),
        ),
    };
    Finding::new(
        "neighbour-table-full",
        format!(
            "the kernel refused {count} new entries of its IPv6 neighbour table{within}: it is full, at {} (gc_thresh3), for all \
             network namespaces of this machine, and addresses without an entry are not reached; {filled_by}",
            table.limit
        ),
        format!("{search}{}", raise(table)),
    )
}

/// A crowded link. The doctor shows the rules that limit first contacts: they are too long for a status.
pub(super) fn unanswered(table: &NeighbourTable, it: &Unanswered, with_rules: bool) -> Finding {
    let Unanswered { link, count, example, prefix, .. } = it;
    let to = prefix.map_or_else(|| format!("host {example}"), |prefix| format!("net {prefix}"));
    let limit = match rules(table, it).filter(|_| with_rules) {
        Some(rules) => format!("limit first contacts (until `nft delete table ip6 first_contacts`): {rules}"),
        None => "limit first contacts by the rules that `sextant-agent doctor` shows on this host".to_owned(),
    };
    Finding::new(
        "neighbours-unanswered",
        format!(
            "addresses on interface {link} that do not answer, e.g. {example}, occupy {count} of {} IPv6 neighbour entries \
             (gc_thresh3), which all network namespaces of this machine share",
            table.limit
        ),
        format!(
            "find the sender, e.g. `tcpdump -c 20 -n -i any dst {to}`, and stop it{}; or {limit}",
            raise(table)
        ),
    )
}

/// The commands that limit packets to addresses of the link that are not known: half of a crowd stays unanswered at the most.
/// Known is what has an entry, and what later answers this host, asks it, or sends through it. Run twice, they do no harm.
fn rules(table: &NeighbourTable, it: &Unanswered) -> Option<String> {
    let (link, prefix, half) = (&it.link, it.prefix?, u64::from(table.limit / CROWDED / 2));
    let per_second = (half * 1000 / it.fails_after_ms.max(1)).max(1);
    let needs_no_quotes = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    link.bytes().all(needs_no_quotes).then(|| {
        format!(
            "nft 'table ip6 first_contacts {{ set known {{ type ipv6_addr; flags dynamic, timeout; timeout 1h; size 65536; }}; }}' && \
             ip -6 neighbour show dev {link} nud reachable nud stale nud delay nud probe nud permanent | awk '{{ print \"add \
             element ip6 first_contacts known {{ \" $1 \" }}\" }}' | nft -f - && nft 'table ip6 first_contacts {{ chain learn {{ \
             type filter hook input priority -10; icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 \
             update @known {{ ip6 saddr }}; }}; chain limit_unknown {{ type filter hook forward priority -10; iifname \"{link}\" \
             ip6 saddr {prefix} update @known {{ ip6 saddr }}; ip6 daddr {prefix} ip6 daddr != @known limit rate over \
             {per_second}/second drop; }}; }}'"
        )
    })
}

/// How the kernel gets room; empty where the limits are high.
fn raise(table: &NeighbourTable) -> String {
    let limit = table.limit.saturating_mul(4);
    if limit > MAX_LIMIT {
        return String::new();
    }
    format!(
        "; until then, in the machine's initial network namespace: `sysctl -w net.ipv6.neigh.default.gc_thresh2={} \
         net.ipv6.neigh.default.gc_thresh3={limit}`",
        table.soft_limit.max(limit / 2)
    )
}

#[cfg(test)]
mod tests {
    use sextant_proto::convert::LONGEST_TEXT;

    use super::*;

    const TABLE: NeighbourTable =
        NeighbourTable { entries: 600, soft_limit: 512, limit: 1024, failed: 0, refused: 0 };

    fn docker0() -> Unanswered {
        Unanswered {
            link: "docker0".into(),
            count: 105,
            example: "2001:db8:1::9".parse().unwrap(),
            prefix: "2001:db8:1::/80".parse().ok(),
            fails_after_ms: 300,
        }
    }

    #[test]
    fn the_link_the_number_the_limit_and_the_fix_are_named() {
        let found = unanswered(&TABLE, &docker0(), false);
        assert!(
            found.saw.starts_with(
                "addresses on interface docker0 that do not answer, e.g. 2001:db8:1::9, occupy 105 of 1024 IPv6"
            ),
            "{found:?}"
        );
        for part in [
            "`tcpdump -c 20 -n -i any dst net 2001:db8:1::/80`",
            "`sysctl -w net.ipv6.neigh.default.gc_thresh2=2048 net.ipv6.neigh.default.gc_thresh3=4096`",
        ] {
            assert!(found.fix.contains(part), "{found:?}");
        }
        let without = unanswered(&TABLE, &Unanswered { prefix: None, ..docker0() }, true);
        assert!(without.fix.contains("any dst host 2001:db8:1::9`"), "{without:?}");
        let quoted = unanswered(&TABLE, &Unanswered { link: "br'0".into(), ..docker0() }, true);
        assert!(!without.fix.contains("nft '") && !quoted.fix.contains("nft '"), "{without:?}, {quoted:?}");
        assert!(unanswered(&TABLE, &docker0(), true).fix.contains("nft '"));
    }

    #[test]
    fn proposed_limits_are_never_lower_than_before_and_not_without_end() {
        let high = NeighbourTable { soft_limit: 8192, limit: 65_536, ..TABLE };
        assert!(!unanswered(&high, &docker0(), false).fix.contains("sysctl"));
        let higher = NeighbourTable { soft_limit: 40_000, limit: 16_384, ..TABLE };
        assert!(unanswered(&higher, &docker0(), false).fix.contains("gc_thresh2=40000"));
    }

    #[test]
    fn the_rules_let_half_of_a_crowd_be_unanswered() {
        let limit = |table, fails_after_ms| {
            let fix = unanswered(&table, &Unanswered { fails_after_ms, ..docker0() }, true).fix;
            fix.split_once("limit rate over ").unwrap().1.split_once(' ').unwrap().0.to_owned()
        };
        assert_eq!((limit(TABLE, 300), limit(TABLE, 3000)), ("106/second".into(), "10/second".into()));
        assert_eq!(limit(NeighbourTable { limit: 16, ..TABLE }, 3000), "1/second");
    }

    #[test]
    fn a_full_table_is_reported_with_the_crowded_links() {
        let found = full(&TABLE, 7, Duration::ZERO, &[&docker0()]);
        assert!(
            found.saw.contains("refused 7 new entries") && found.saw.ends_with("on docker0"),
            "{found:?}"
        );
        let elsewhere = full(&TABLE, 7, Duration::from_secs(60), &[]);
        assert!(elsewhere.saw.contains("in 60 s: it is full, at 1024"), "{elsewhere:?}");
        assert!(elsewhere.fix.contains("nud incomplete"), "{elsewhere:?}");
    }

    #[test]
    fn a_status_has_the_whole_texts() {
        let long = Unanswered {
            link: "br-0123456789ab".into(),
            count: 60_000,
            example: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            prefix: "2001:db8:ffff:ffff:ffff:ffff:ffff:fff0/124".parse().ok(),
            fails_after_ms: 300,
        };
        let table = NeighbourTable { limit: 16_384, refused: 1 << 32, ..TABLE };
        let ages = Duration::from_secs(1 << 20);
        let found = [
            unanswered(&table, &long, false),
            full(&table, 1 << 32, ages, &[&long; 9]),
            full(&table, 1 << 32, ages, &[]),
        ];
        for it in found {
            assert!(it.saw.len() <= LONGEST_TEXT && it.fix.len() <= LONGEST_TEXT, "{it:?}");
        }
    }
}
