//! Rules that let the cluster's packets pass the engine's own firewall. Pure; [`tables`] is the edge.
//!
//! An engine with `ip6tables` drops packets to containers unless their port is published, and replaces the source of packets
//! from them. Its chains are this host's, so the rules are beside the engine's, marked by a comment: before the first rule that
//! would drop or change a packet. Without such an engine no rule is needed, and none is kept.

pub mod tables;

use sextant_proto::Prefix;

/// The comment of the rules.
pub const COMMENT: &str = "sextant";

/// What packets between containers of the cluster may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FromCluster {
    /// All ports.
    #[default]
    Open,
    /// The ports that are published, as the engine has it.
    Published,
}

/// Whose packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// The container prefix of this host.
    pub own: Prefix,
    /// The cluster's pools, sorted.
    pub pools: Vec<Prefix>,
    /// What packets from there may reach.
    pub from_cluster: FromCluster,
}

/// A table of the firewall, with the chain that the rules are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Before connections are tracked: engines from 28 on drop here.
    Raw,
    /// Forwarded packets.
    Filter,
    /// The source of packets that leave.
    Nat,
}

impl Table {
    /// All.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Filter, Self::Nat];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }

    /// The chain for rules among the table's `lines`: the one that engines leave to users, if packets get there.
    fn chain(self, lines: &[String]) -> &'static str {
        match self {
            Self::Raw => "PREROUTING",
            Self::Filter if rules(lines, "FORWARD").any(|rule| rule == "-j DOCKER-USER") => "DOCKER-USER",
            Self::Filter => "FORWARD",
            Self::Nat => "POSTROUTING",
        }
    }

    /// Whether the engine has put rules into the table.
    fn is_engines(self, lines: &[String]) -> bool {
        match self {
            Self::Raw => rules(lines, "PREROUTING").any(|rule| rule.ends_with("-j DROP") && !is_ours(rule)),
            Self::Filter | Self::Nat => has_chain(lines, "DOCKER"),
        }
    }

    /// The wanted rules, without the chain.
    fn wanted(self, passes: &Passes) -> Vec<String> {
        let own = passes.own;
        let rule =
            |from: Prefix, to: Prefix| format!("-s {from} -d {to} -m comment --comment {COMMENT} -j ACCEPT");
        let pools = passes.pools.iter().copied();
        match (self, passes.from_cluster) {
            (Self::Nat, _) => pools.map(|pool| rule(own, pool)).collect(),
            (_, FromCluster::Published) => Vec::new(),
            (Self::Raw, FromCluster::Open) => pools.map(|pool| rule(pool, own)).collect(),
            (Self::Filter, FromCluster::Open) => {
                pools.flat_map(|pool| [rule(pool, own), rule(own, pool)]).collect()
            }
        }
    }
}

/// The changes to a table, as lines for `ip6tables-restore --noflush`; none if it is right. `lines` are those that `ip6tables -S`
/// shows of it; without `passes` no rule is wanted.
pub fn changes(table: Table, lines: &[String], passes: Option<&Passes>) -> Vec<String> {
    let wanted =
        passes.filter(|_| table.is_engines(lines)).map(|passes| table.wanted(passes)).unwrap_or_default();
    let chain = table.chain(lines);
    let ours: Vec<_> = lines.iter().filter(|line| line.starts_with("-A ") && is_ours(line)).collect();
    let in_chain: Vec<_> = rules(lines, chain).collect();
    let in_front = in_chain.iter().take_while(|rule| is_ours(rule) || !decides(rule));
    let front: Vec<_> = in_front.filter(|rule| is_ours(rule)).map(|rule| (*rule).to_owned()).collect();
    if front == wanted && ours.len() == wanted.len() {
        return Vec::new();
    }
    let delete = ours.into_iter().map(|line| format!("-D {}", &line["-A ".len()..]));
    let insert = wanted.iter().enumerate().map(|(at, rule)| format!("-I {chain} {} {rule}", at + 1));
    delete.chain(insert).collect()
}

/// The rules of a chain, without its name.
fn rules<'a>(lines: &'a [String], chain: &str) -> impl Iterator<Item = &'a str> {
    let prefix = format!("-A {chain} ");
    lines.iter().filter_map(move |line| line.strip_prefix(&prefix))
}

fn has_chain(lines: &[String], chain: &str) -> bool {
    lines.iter().any(|line| line.strip_prefix("-N ") == Some(chain))
}

fn is_ours(rule: &str) -> bool {
    rule.contains(&format!("--comment {COMMENT} ")) || rule.contains(&format!("--comment \"{COMMENT}\" "))
}

/// Whether a rule may decide on a packet, or change it. Jumps to others' chains may do either, but are not the engine's.
fn decides(rule: &str) -> bool {
    let target = rule.split(" -j ").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
    matches!(target, "DROP" | "REJECT" | "MASQUERADE" | "SNAT" | "DNAT")
        || (target.starts_with("DOCKER") && target != "DOCKER-USER")
}

#[cfg(test)]
mod tests;
