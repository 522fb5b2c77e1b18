//! Checks a host's packet filter for forwarded packets, by its rules as text. Pure.

use sextant_proto::Prefix;

use super::{Check, State};

/// A chain of forwarded packets.
#[derive(Debug, Default)]
struct Chain<'a> {
    /// Family and name, e.g. `ip6 filter`.
    table: &'a str,
    name: &'a str,
    forwards: bool,
    drops: bool,
    rules: Vec<&'a str>,
}

/// Checks the filter. `ruleset` is the output of `nft list ruleset`, `legacy_forward` the first line of `ip6tables-legacy -S
/// FORWARD`. Packets of `pool` should be accepted.
pub(super) fn check(
    here: &str,
    ruleset: Option<&str>,
    legacy_forward: Option<&str>,
    pool: Option<Prefix>,
) -> Check {
    let pool = pool.map_or_else(|| "POOL".to_owned(), |pool| pool.to_string());
    if legacy_forward.is_some_and(|line| line.trim() == "-P FORWARD DROP") {
        let fix = format!(
            "on {here}: ip6tables-legacy -I FORWARD -d {pool} -j ACCEPT; ip6tables-legacy -I FORWARD -s {pool} -j ACCEPT"
        );
        let saw = "ip6tables-legacy FORWARD drops packets that no rule accepts";
        return Check { fix, ..Check::new("firewall", State::Doubtful, saw) };
    }
    let Some(ruleset) = ruleset else {
        return Check::new("firewall", State::Unknown, "not checked: nft cannot list its rules");
    };
    let chains = chains(ruleset);
    let worst = chains
        .iter()
        .filter_map(|chain| Some((chain, judge(chain)?)))
        .max_by_key(|(_, (state, _))| usize::from(*state == State::Broken));
    let Some((Chain { table, name, .. }, (state, does))) = worst else {
        return Check::new("firewall", State::Good, "no chain drops all forwarded packets");
    };
    let insert = format!("nft insert rule {table} {name} ip6");
    let fix = format!("on {here}: {insert} daddr {pool} accept; {insert} saddr {pool} accept");
    let saw = format!("nftables chain {table} {name} {does}");
    Check { fix, ..Check::new("firewall", state, saw) }
}

fn judge(chain: &Chain<'_>) -> Option<(State, &'static str)> {
    let first_drop = chain.rules.iter().position(|rule| drops_all(rule)).unwrap_or(chain.rules.len());
    let (before, unconditional) = (&chain.rules[..first_drop], first_drop < chain.rules.len());
    if !unconditional && !chain.drops {
        return None;
    }
    let accepts_some = before.iter().any(|rule| {
        rule.split(' ').any(|word| matches!(word, "accept" | "jump" | "goto" | "queue" | "vmap"))
    });
    Some(match accepts_some {
        true => (State::Doubtful, "drops forwarded packets unless one of its rules accepts them"),
        false => (State::Broken, "drops all forwarded packets"),
    })
}

/// Whether a rule drops every packet: it has no condition, and at most a counter.
fn drops_all(rule: &str) -> bool {
    let mut words = rule.split(' ').peekable();
    if words.peek() == Some(&"counter") {
        let _counted: Vec<_> = words.by_ref().take(5).collect();
    }
    matches!(words.next(), Some("drop" | "reject"))
}

fn chains(ruleset: &str) -> Vec<Chain<'_>> {
    let (mut chains, mut table): (Vec<Chain<'_>>, _) = (Vec::new(), "");
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chains.push(Chain { table, name: name.trim_end_matches(" {"), ..Chain::default() });
        } else if let Some(chain) = chains.last_mut().filter(|_| line != "}" && !line.is_empty()) {
            if line.starts_with("type ") && line.contains(" hook ") {
                chain.forwards = line.contains(" hook forward ");
                chain.drops = line.contains("policy drop");
            } else {
                chain.rules.push(line);
            }
        }
    }
    chains.retain(|chain| {
        chain.forwards && (chain.table.starts_with("ip6 ") || chain.table.starts_with("inet "))
    });
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ruleset in the format of nft 1.0.6, with these rules in the forward chain.
    fn ruleset(family: &str, policy: &str, rules: &str) -> String {
        format!(
            "table {family} filter {{\n\tchain INPUT {{\n\t\ttype filter hook input priority filter; policy drop;\n\t}}\n\n\
             \tchain FORWARD {{\n\t\ttype filter hook forward priority filter; policy {policy};\n\t\t{rules}\n\t}}\n}}\n"
        )
    }

    fn state(ruleset: &str) -> State {
        check("h2", Some(ruleset), None, None).state
    }

    #[test]
    fn chains_that_drop_all_or_some_packets_are_found() {
        for (family, policy, rules, expected) in [
            ("ip6", "accept", "", State::Good),
            ("ip6", "accept", "ip6 saddr 2001:db8::/32 drop", State::Good),
            ("ip6", "drop", "", State::Broken),
            ("inet", "drop", "ct state invalid drop", State::Broken),
            ("ip", "drop", "", State::Good),
            ("ip6", "drop", "counter packets 9 bytes 9 jump DOCKER-USER", State::Doubtful),
            ("ip6", "drop", "ip6 daddr 2001:db8::/32 accept", State::Doubtful),
            ("ip6", "accept", "counter packets 0 bytes 0 drop", State::Broken),
            ("ip6", "accept", "reject with icmpv6 admin-prohibited", State::Broken),
            ("ip6", "accept", "ct state established accept\n\t\tdrop", State::Doubtful),
        ] {
            assert_eq!(state(&ruleset(family, policy, rules)), expected, "{family} {policy} {rules}");
        }
        assert_eq!(state(""), State::Good);
        assert_eq!(check("h2", None, None, None).state, State::Unknown);
    }

    #[test]
    fn the_fix_names_chain_and_pool() {
        let pool = "2001:db8:8000::/40".parse().ok();
        let dropped = check("h2", Some(&ruleset("ip6", "drop", "")), None, pool);
        assert_eq!(dropped.saw, "nftables chain ip6 filter FORWARD drops all forwarded packets");
        assert_eq!(
            dropped.fix,
            "on h2: nft insert rule ip6 filter FORWARD ip6 daddr 2001:db8:8000::/40 accept; \
             nft insert rule ip6 filter FORWARD ip6 saddr 2001:db8:8000::/40 accept"
        );
        let legacy = check("h2", Some(""), Some("-P FORWARD DROP\n"), pool);
        assert!(legacy.fix.contains("ip6tables-legacy -I FORWARD -d 2001:db8:8000::/40"), "{legacy:?}");
    }
}
