//! The problems of the neighbour table, with their fixes. Pure.

use std::time::Duration;

use super::pressure::Unanswered;
use crate::{kernel::NeighbourTable, problems::Finding};

/// No higher limit is proposed.
const MAX_LIMIT: u32 = 65_536;

/// The kernel has refused `count` entries in this time; these links are crowded.
pub(super) fn full(table: &NeighbourTable, count: u64, within: Duration, crowded: &[&Unanswered]) -> Finding {
    let within = match within.as_secs() {
        0 => String::new(),
        seconds => format!(" in {seconds} s"),
    };
    let links: Vec<_> = crowded.iter().map(|it| it.link.as_str()).collect();
    let (filled_by, search) = match &links[..] {
        [] => (
            "no link of this host has many unanswered addresses, so other network namespaces fill it".to_owned(),
            "find the container that sends to unused addresses of its own link: in each one's network namespace, `ip -6 \
             neighbour show nud incomplete`"
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

/// A crowded link.
pub(super) fn unanswered(table: &NeighbourTable, it: &Unanswered) -> Finding {
    let Unanswered { link, count, example, prefix } = it;
    let to = prefix.map_or_else(|| format!("dst host {example}"), |prefix| format!("dst net {prefix}"));
    Finding::new(
        "neighbours-unanswered",
        format!(
            "addresses on interface {link} that do not answer, e.g. {example}, occupy {count} of {} IPv6 neighbour entries (gc_thresh3), \
             which all network namespaces of this machine share",
            table.limit
        ),
        format!(
            "find the sender, e.g. with `tcpdump -c 20 -n -i any {to}`, and stop it; or load the rules of \"Packets to unused \
             addresses\" in docs/operations.md, which limit such packets{}",
            raise(table)
        ),
    )
}

/// The command that gives the kernel room.
fn raise(table: &NeighbourTable) -> String {
    let limit = table.limit.saturating_mul(4);
    if limit > MAX_LIMIT {
        return String::new();
    }
    format!(
        "; meanwhile, in the machine's initial network namespace: `sysctl -w net.ipv6.neigh.default.gc_thresh2={} \
         net.ipv6.neigh.default.gc_thresh3={limit}`",
        table.soft_limit.max(limit / 2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_the_number_the_limit_and_the_fix_are_named() {
        let table = NeighbourTable { soft_limit: 512, limit: 1024, ..NeighbourTable::default() };
        let docker0 = Unanswered {
            link: "docker0".into(),
            count: 105,
            example: "2001:db8:1::9".parse().unwrap(),
            prefix: "2001:db8:1::/80".parse().ok(),
        };
        let found = unanswered(&table, &docker0);
        assert!(
            found.saw.starts_with(
                "addresses on interface docker0 that do not answer, e.g. 2001:db8:1::9, occupy 105 of 1024 IPv6 neighbour entries"
            ),
            "{found:?}"
        );
        for part in [
            "`tcpdump -c 20 -n -i any dst net 2001:db8:1::/80`",
            "`sysctl -w net.ipv6.neigh.default.gc_thresh2=2048 net.ipv6.neigh.default.gc_thresh3=4096`",
        ] {
            assert!(found.fix.contains(part), "{found:?}");
        }
        let without = unanswered(&table, &Unanswered { prefix: None, ..docker0.clone() });
        assert!(without.fix.contains("any dst host 2001:db8:1::9`"), "{without:?}");
        let high = NeighbourTable { soft_limit: 8192, limit: 65_536, ..table };
        assert!(!unanswered(&high, &docker0).fix.contains("sysctl"));
        let higher = NeighbourTable { soft_limit: 16_000, limit: 16_384, ..table };
        assert!(unanswered(&higher, &docker0).fix.contains("gc_thresh2=32768"), "never lower than before");

        let found = full(&table, 7, Duration::ZERO, &[&docker0]);
        assert!(
            found.saw.contains("refused 7 new entries") && found.saw.ends_with("on docker0"),
            "{found:?}"
        );
        let elsewhere = full(&table, 7, Duration::from_secs(60), &[]);
        assert!(
            elsewhere.saw.contains("in 60 s: it is full, at 1024")
                && elsewhere.fix.contains("nud incomplete")
        );
    }
}
