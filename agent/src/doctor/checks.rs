//! What may be wrong with a host, by facts about it. Pure.

use std::fmt;

/// What was found on a host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel's version, e.g. (6, 1).
    pub kernel: (u32, u32),
    /// How many next hops our routes lead to.
    pub next_hops: usize,
    /// How many interfaces are connected to the bridge.
    pub containers: usize,
    /// How many IPv6 routes there are in our table.
    pub routes: usize,
    /// `net.ipv6.neigh.default.gc_thresh2` and 3, where they can be seen: they are the whole kernel's.
    pub gc_thresh: Option<(u64, u64)>,
    /// `net.ipv6.route.max_size`.
    pub max_size: Option<u64>,
    /// `nft list ruleset`, or nothing.
    pub ruleset: String,
    /// The first line of `ip6tables-legacy -S FORWARD`, or nothing.
    pub legacy_forward: String,
    /// What is wrong with the uplinks, if anything.
    pub uplinks: Option<String>,
}

/// Something wrong, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What a person can do.
    pub mend: String,
    /// What `--fix` sets: sysctls and their values. Empty if that is not ours to decide.
    pub fix: Vec<(&'static str, u64)>,
}

/// The kernel reads this sysctl no longer (commit af6d10345ca7, in 6.3).
const WITHOUT_MAX_SIZE: (u32, u32) = (6, 3);
/// Routes that come between two looks.
const ROOM: u64 = 1024;

/// All that is wrong.
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let uplinks = facts.uplinks.as_ref().map(|what| Problem {
        what: what.clone(),
        mend: "set [uplink] interface in agent.toml, or --uplink".to_owned(),
        fix: vec![],
    });
    let legacy =
        (facts.legacy_forward.trim() == "-P FORWARD DROP").then(|| drops("ip6tables-legacy FORWARD"));
    let mut problems: Vec<_> = uplinks.into_iter().chain(neighbours(facts)).chain(max_size(facts)).collect();
    problems.extend(legacy);
    problems.extend(of_ruleset(&facts.ruleset));
    problems
}

/// The kernel drops neighbours past the second threshold, and takes none past the third.
fn neighbours(facts: &Facts) -> Option<Problem> {
    let (second, third) = facts.gc_thresh?;
    let needed = (facts.next_hops + facts.containers) as u64;
    if second >= needed && third >= needed * 2 {
        return None;
    }
    let (two, three) = (second.max(needed * 2), third.max(needed * 4));
    Some(Problem {
        what: format!(
            "the kernel keeps {second} to {third} IPv6 neighbours, and {needed} next hops and containers need entries"
        ),
        mend: format!(
            "sysctl -w net.ipv6.neigh.default.gc_thresh2={two} net.ipv6.neigh.default.gc_thresh3={three}, and put it in \
             /etc/sysctl.d"
        ),
        fix: vec![("net/ipv6/neigh/default/gc_thresh3", three), ("net/ipv6/neigh/default/gc_thresh2", two)],
    })
}

fn max_size(facts: &Facts) -> Option<Problem> {
    let max_size = facts.max_size.filter(|_| facts.kernel < WITHOUT_MAX_SIZE)?;
    let needed = facts.routes as u64 + ROOM;
    (max_size < needed).then(|| Problem {
        what: format!("this kernel keeps {max_size} IPv6 routes, and {needed} may be needed"),
        mend: format!("sysctl -w net.ipv6.route.max_size={}, and put it in /etc/sysctl.d", needed * 2),
        fix: vec![],
    })
}

fn drops(chain: &str) -> Problem {
    Problem {
        what: format!("{chain} drops forwarded IPv6 packets unless a rule accepts them"),
        mend: "accept what goes to and comes from the pool's prefix there, e.g. ip6 daddr POOL accept and ip6 saddr POOL \
               accept"
            .to_owned(),
        fix: vec![],
    }
}

/// Of the text that `nft list ruleset` writes.
fn of_ruleset(ruleset: &str) -> Vec<Problem> {
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
        if line.contains("hook forward") && line.contains("policy drop") {
            problems.push(drops(&format!("nftables chain {table} {chain}")));
        }
        let no_way_back = line.contains("missing") || line.contains("oif 0");
        let checks_source = line.contains("fib saddr") && no_way_back && line.ends_with("drop");
        if checks_source {
            problems.push(Problem {
                what: format!(
                    "nftables chain {table} {chain} drops packets that come from where no route leads back"
                ),
                mend: "with firewalld: IPv6_rpfilter=loose (or no) in /etc/firewalld/firewalld.conf, then firewall-cmd \
                       --reload"
                    .to_owned(),
                fix: vec![],
            });
        }
    }
    problems
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  mend: {}", self.what, self.mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let (gc_thresh, max_size) = (Some((512, 1024)), Some(4096));
        Facts { kernel: (6, 1), next_hops: 20, containers: 5, gc_thresh, max_size, ..Facts::default() }
    }

    /// What nft 1.0.6 writes.
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
    fn a_sound_host_has_no_problem() {
        assert_eq!(problems(&facts()), []);
        let many = Facts { kernel: (6, 3), routes: 100_000, ..facts() };
        assert_eq!(problems(&many), [], "a later kernel has no such limit");
    }

    #[test]
    fn too_many_neighbours_and_routes_are_told_with_what_would_do() {
        let found = problems(&Facts { next_hops: 1100, routes: 5000, ..facts() });
        assert_eq!(found.len(), 2);
        assert!(
            found[0].mend.contains("gc_thresh2=2210 net.ipv6.neigh.default.gc_thresh3=4420"),
            "{}",
            found[0]
        );
        assert_eq!(found[0].fix.len(), 2);
        assert!(found[1].what.contains("4096") && found[1].mend.contains("max_size=12048"), "{}", found[1]);
    }

    #[test]
    fn firewalls_are_named() {
        let found = problems(&Facts { ruleset: RULES.to_owned(), ..facts() });
        let said: Vec<_> = found.iter().map(|problem| problem.what.split(" drops").next().unwrap()).collect();
        assert_eq!(
            said,
            ["nftables chain ip6 filter FORWARD", "nftables chain inet firewalld filter_PREROUTING"]
        );
        assert!(found[1].mend.contains("IPv6_rpfilter=loose"), "{}", found[1]);
        let legacy = Facts { legacy_forward: "-P FORWARD DROP\n".to_owned(), ..facts() };
        assert_eq!(problems(&legacy).len(), 1);
    }
}
