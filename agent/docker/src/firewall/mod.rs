//! Rules for packets to containers, beside the engine's own firewall. Pure; [`tables`] is the edge.
//!
//! An engine with `ip6tables` drops packets to containers unless their port is published, and replaces the source of packets
//! from them; one without drops nothing. So that a [policy](policy::Passes) means the same with both, the rules are before the
//! first one of the engine that would drop or change a packet, marked by a comment. Where an engine has no rules, there are
//! only those that a policy needs.

pub mod keeper;
pub mod known;
pub mod notices;
pub mod policy;
pub mod tables;
pub mod verdict;

use policy::{Passes, Rules};

/// The comment of the rules.
pub const COMMENT: &str = "sextant";
/// The chain with what is published.
const PUBLISHED: &str = "SEXTANT-PUBLISHED";
/// The chain that engines leave to users. They keep its rules, and come to it first.
const USERS: &str = "DOCKER-USER";

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
            Self::Filter if rules(lines, "FORWARD").any(|rule| rule == "-j DOCKER-USER") => USERS,
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

    /// The wanted rules.
    fn wanted(self, lines: &[String], passes: Option<&Passes>) -> Rules {
        passes.map(|passes| passes.rules(self, self.is_engines(lines))).unwrap_or_default()
    }
}

/// The changes to a table, as lines for `ip6tables-restore --noflush`; none if it is right. `lines` are those that `ip6tables -S`
/// shows of it; without `passes` no rule is wanted.
pub fn changes(table: Table, lines: &[String], passes: Option<&Passes>) -> Vec<String> {
    changes_to(&table.wanted(lines, passes), &[table.chain(lines)], lines)
}

/// The same before an engine starts, which may have a firewall or none: the rules for both, until the agent sees the engine.
pub fn prepared(table: Table, lines: &[String], passes: &Passes) -> Vec<String> {
    let chain = table.chain(lines);
    let chains = if chain == "FORWARD" { vec![chain, USERS] } else { vec![chain] };
    changes_to(&passes.prepared(table), &chains, lines)
}

/// As [`prepared`], for [`Table::Raw`] of a kernel that tracks all connections.
pub fn tracked(lines: &[String], passes: &Passes) -> Vec<String> {
    changes_to(&passes.rules(Table::Raw, true), &[Table::Raw.chain(lines)], lines)
}

/// The changes after which the wanted rules, and no other ones of ours, are in each of these chains.
fn changes_to(wanted: &Rules, chains: &[&str], lines: &[String]) -> Vec<String> {
    let mut changes = Vec::new();
    let has_published = has_chain(lines, PUBLISHED);
    if let Some(published) = &wanted.published
        && !(has_published && rules(lines, PUBLISHED).eq(published))
    {
        // It empties the chain, if there is one.
        changes.push(format!(":{PUBLISHED} - [0:0]"));
        changes.extend(published.iter().map(|rule| format!("-A {PUBLISHED} {rule}")));
    }
    if chains.contains(&USERS) && !has_chain(lines, USERS) {
        changes.push(format!(":{USERS} - [0:0]"));
    }
    let own = format!("-A {PUBLISHED} ");
    let ours = |line: &&String| line.starts_with("-A ") && is_ours(line) && !line.starts_with(&own);
    let ours: Vec<_> = lines.iter().filter(ours).collect();
    let right = chains.iter().all(|chain| front(lines, chain) == wanted.front);
    if !right || ours.len() != wanted.front.len() * chains.len() {
        changes.extend(ours.iter().map(|line| format!("-D {}", &line["-A ".len()..])));
        let all = chains.iter().flat_map(|chain| wanted.front.iter().enumerate().map(move |it| (chain, it)));
        changes.extend(all.map(|(chain, (at, rule))| format!("-I {chain} {} {rule}", at + 1)));
    }
    if has_published && wanted.published.is_none() {
        changes.extend([format!("-F {PUBLISHED}"), format!("-X {PUBLISHED}")]);
    }
    changes
}

/// The rules that the policy wants in a table and that are not in place, as `ip6tables -A` takes them. Further rules of the agent, for
/// pools that `passes` does not know, are right.
pub fn missing(table: Table, lines: &[String], passes: &Passes) -> Vec<String> {
    let (wanted, chain) = (table.wanted(lines, Some(passes)), table.chain(lines));
    let (present, in_front) = (rules(lines, PUBLISHED).collect::<Vec<_>>(), front(lines, chain));
    let published = wanted.published.unwrap_or_default().into_iter();
    let published = published.filter(|rule| !present.contains(&rule.as_str()));
    let published = published.map(|rule| format!("-A {PUBLISHED} {rule}"));
    let front = wanted.front.into_iter().filter(|rule| !in_front.contains(rule));
    front.map(|rule| format!("-A {chain} {rule}")).chain(published).collect()
}

/// Our rules before the first one of others that decides.
fn front(lines: &[String], chain: &str) -> Vec<String> {
    let all: Vec<_> = rules(lines, chain).collect();
    let front = all.iter().take_while(|rule| is_ours(rule) || !decides(rule));
    front.filter(|rule| is_ours(rule)).map(|rule| (*rule).to_owned()).collect()
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
    let rule = format!(" {rule}");
    let target = rule.split(" -j ").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
    matches!(target, "DROP" | "REJECT" | "MASQUERADE" | "SNAT" | "DNAT")
        || (target.starts_with("DOCKER") && target != "DOCKER-USER")
}

#[cfg(test)]
mod tests;
