//! Finds problems of a host in facts about it. Pure.

use std::fmt;

use super::icmpv6;
use crate::neighbours::limits;

/// Facts about a host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel's version, e.g. (6, 1).
    pub kernel: (u32, u32),
    /// The number of next hops of our routes.
    pub next_hops: usize,
    /// The number of interfaces that are connected to the bridge.
    pub containers: usize,
    /// The number of IPv6 routes in our table.
    pub routes: usize,
    /// `net.ipv6.neigh.default.gc_thresh2` and 3, of the kernel: they belong to no network namespace.
    pub gc_thresh: Option<(u64, u64)>,
    /// `net.ipv6.route.max_size`.
    pub max_size: Option<u64>,
    /// The output of `nft list ruleset`; may be empty.
    pub ruleset: String,
    /// The first line of `ip6tables-legacy -S FORWARD`; may be empty.
    pub legacy_forward: String,
    /// The rules of `ip6tables` are judged by what they do with containers' packets, where an engine may have made them.
    pub ip6tables_judged: bool,
}

/// A problem with its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The problem, with the names and values.
    pub text: String,
    /// The fix, for an operator.
    pub fix: String,
    /// The sysctls and values that `--fix` sets. Empty if only an operator can decide.
    pub sysctls: Vec<(&'static str, u64)>,
    /// The commands that `--fix` carries out, likewise.
    pub commands: Vec<String>,
}

/// The kernel ignores this sysctl since 6.3 (commit af6d10345ca7).
const WITHOUT_MAX_SIZE: (u32, u32) = (6, 3);
/// Room for routes that are added after the check.
const ROOM: u64 = 1024;

/// All problems.
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let legacy = (!facts.ip6tables_judged && facts.legacy_forward.trim() == "-P FORWARD DROP")
        .then(|| drops("ip6tables-legacy FORWARD"));
    let mut problems: Vec<_> = neighbours(facts).into_iter().chain(max_size(facts)).collect();
    problems.extend(legacy);
    problems.extend(of_ruleset(&facts.ruleset, facts.ip6tables_judged));
    problems
}

fn neighbours(facts: &Facts) -> Option<Problem> {
    let low = limits::too_low(facts.gc_thresh?, facts.next_hops, facts.containers)?;
    Some(Problem { text: low.text, fix: low.fix, sysctls: low.sysctls, commands: vec![] })
}

fn max_size(facts: &Facts) -> Option<Problem> {
    let max_size = facts.max_size.filter(|_| facts.kernel < WITHOUT_MAX_SIZE)?;
    let needed = facts.routes as u64 + ROOM;
    (max_size < needed).then(|| Problem {
        text: format!("the kernel keeps {max_size} IPv6 routes, but {needed} may be needed"),
        fix: format!("sysctl -w net.ipv6.route.max_size={}, and add it to /etc/sysctl.d", needed * 2),
        sysctls: vec![],
        commands: vec![],
    })
}

fn drops(chain: &str) -> Problem {
    Problem {
        text: format!("{chain} drops forwarded IPv6 packets unless a rule accepts them"),
        fix:
            "accept packets to and from the pool there, e.g. ip6 daddr POOL accept and ip6 saddr POOL accept"
                .to_owned(),
        sysctls: vec![],
        commands: vec![],
    }
}

/// The problems in the output of `nft list ruleset`.
fn of_ruleset(ruleset: &str, ip6tables_judged: bool) -> Vec<Problem> {
    let (mut problems, mut table, mut chain) = (Vec::new(), "", "");
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        }
        if !table.starts_with("ip6 ") && !table.starts_with("inet ") {
            continue;
        }
        let judged = ip6tables_judged && (table, chain) == ("ip6 filter", "FORWARD");
        if line.contains("hook forward") && line.contains("policy drop") && !judged {
            problems.push(drops(&format!("nftables chain {table} {chain}")));
        }
        problems.extend(icmpv6::of_rule(&format!("nftables chain {table} {chain}"), line));
        let no_return_route = line.contains("missing") || line.contains("oif 0");
        let checks_source = line.contains("fib saddr") && no_return_route && line.ends_with("drop");
        if checks_source {
            problems.push(Problem {
                text: format!(
                    "nftables chain {table} {chain} drops packets without a route back to their source (reverse path filter)"
                ),
                fix: "with firewalld: IPv6_rpfilter=loose (or no) in /etc/firewalld/firewalld.conf, then firewall-cmd \
                       --reload"
                    .to_owned(),
                sysctls: vec![],
 commands: vec![],
            });
        }
    }
    problems
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  fix: {}", self.text, self.fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let (gc_thresh, max_size) = (Some((512, 1024)), Some(4096));
        Facts { kernel: (6, 1), next_hops: 20, containers: 5, gc_thresh, max_size, ..Facts::default() }
    }

    /// Output of nft 1.0.6.
    const RULES: &str = "table ip6 filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		ip6 daddr 2001:db8::/32 accept
	}
}
table inet firewalld {
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}
}
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}";

    #[test]
    fn a_healthy_host_has_no_problems() {
        assert_eq!(problems(&facts()), []);
        let many = Facts { kernel: (6, 3), routes: 100_000, ..facts() };
        assert_eq!(problems(&many), [], "newer kernels have no such limit");
    }

    #[test]
    fn too_low_limits_are_reported_with_the_needed_ones() {
        let found = problems(&Facts { next_hops: 1100, routes: 5000, ..facts() });
        assert_eq!(found.len(), 2);
        assert!(
            found[0].fix.contains("gc_thresh2=2210 net.ipv6.neigh.default.gc_thresh3=4420"),
            "{}",
            found[0]
        );
        assert_eq!(found[0].sysctls.len(), 2);
        assert!(found[1].text.contains("4096") && found[1].fix.contains("max_size=12048"), "{}", found[1]);
    }

    #[test]
    fn firewalls_are_reported() {
        let found = problems(&Facts { ruleset: RULES.to_owned(), ..facts() });
        let chains: Vec<_> =
            found.iter().map(|problem| problem.text.split(" drops").next().unwrap()).collect();
        assert_eq!(
            chains,
            ["nftables chain ip6 filter FORWARD", "nftables chain inet firewalld filter_PREROUTING"]
        );
        assert!(found[1].fix.contains("IPv6_rpfilter=loose"), "{}", found[1]);
        let judged = Facts { ip6tables_judged: true, ruleset: RULES.to_owned(), ..facts() };
        assert_eq!(problems(&judged).len(), 1, "firewalld's is none of ip6tables");
        let legacy = Facts { legacy_forward: "-P FORWARD DROP\n".to_owned(), ..facts() };
        assert_eq!(problems(&legacy).len(), 1);
    }
}
