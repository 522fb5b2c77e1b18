//! What a firewall does with the packets between a container prefix and a pool, by the output of `ip6tables-save`. Pure.
//!
//! Only certain results count: a rule with a condition that is not understood neither drops nor changes a packet, and where such a
//! rule may accept it, nothing is said.

mod rule;

use std::collections::BTreeMap;

use sextant_proto::Prefix;

use rule::{Matches, Rule};

/// How deep chains may call each other.
const DEEPEST: u32 = 16;

/// The tables, in the order in which forwarded packets pass them, each with the chains that they pass.
const PATH: [(&str, &[&str]); 3] =
    [("raw", &["PREROUTING"]), ("mangle", &["PREROUTING", "FORWARD"]), ("filter", &["FORWARD"])];

/// The rules of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    chains: BTreeMap<(String, String), Chain>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chain {
    /// `ACCEPT`, `DROP`, or `-` for a chain that is called.
    policy: String,
    rules: Vec<Rule>,
}

/// New connections from some addresses to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The sources.
    pub from: Prefix,
    /// The destinations.
    pub to: Prefix,
    /// The host prefix: packets within it leave no host, and are none of the flow.
    pub host: Prefix,
    /// The interfaces that they may come in by.
    pub input: Vec<String>,
    /// The interfaces that they may leave by.
    pub output: Vec<String>,
}

/// What becomes of the packets of a flow, or of some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// They are dropped or refused.
    Dropped {
        /// The table.
        table: &'static str,
        /// The first chain of the table that they pass.
        chain: &'static str,
        /// The rule as it is listed, or the chain's policy.
        rule: String,
    },
    /// Their source is replaced.
    Masqueraded {
        /// The rule as it is listed.
        rule: String,
    },
}

/// The end of a chain for a packet.
enum End {
    Accepted,
    Returned,
    /// A rule that is not understood may accept it.
    Open,
    Stopped(String),
}

impl Rules {
    /// Those that `ip6tables-save` lists.
    pub fn parse(saved: &str) -> Self {
        let (mut rules, mut table) = (Self::default(), String::new());
        for line in saved.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
            } else if let Some(chain) = line.strip_prefix(':') {
                let mut words = chain.split(' ');
                let key = (table.clone(), words.next().unwrap_or_default().to_owned());
                rules.chains.entry(key).or_default().policy = words.next().unwrap_or_default().to_owned();
            } else if let Some((chain, rule)) = Rule::parse(line) {
                rules.chains.entry((table.clone(), chain)).or_default().rules.push(rule);
            }
        }
        rules
    }

    /// What stops packets of the flow; `None` if nothing certainly does.
    pub fn dropped(&self, flow: &Flow) -> Option<Obstacle> {
        PATH.iter().find_map(|(table, chains)| {
            chains.iter().find_map(|chain| match self.walk(table, chain, flow, &["DROP", "REJECT"], 0) {
                End::Stopped(rule) => Some(Obstacle::Dropped { table, chain, rule }),
                _ => None,
            })
        })
    }

    /// What replaces the source of packets of the flow; `None` if nothing certainly does.
    pub fn masqueraded(&self, flow: &Flow) -> Option<Obstacle> {
        match self.walk("nat", "POSTROUTING", flow, &["MASQUERADE", "SNAT", "NETMAP"], 0) {
            End::Stopped(rule) => Some(Obstacle::Masqueraded { rule }),
            _ => None,
        }
    }

    /// Follows the flow through a chain, up to a rule with one of these targets.
    fn walk(&self, table: &str, name: &str, flow: &Flow, stops: &[&str], depth: u32) -> End {
        let Some(chain) = self.chains.get(&(table.to_owned(), name.to_owned())) else { return End::Returned };
        let mut open = false;
        for rule in &chain.rules {
            let matches = rule.matches(flow);
            match (rule.target.as_str(), matches) {
                (_, Matches::None) => {}
                ("ACCEPT" | "RETURN", Matches::Some) => open = true,
                ("ACCEPT", Matches::All) => return End::Accepted,
                ("RETURN", Matches::All) => return if open { End::Open } else { End::Returned },
                (_, Matches::Unknown) => open |= matches!(rule.target.as_str(), "ACCEPT" | "RETURN"),
                (target, _) if stops.contains(&target) && open => return End::Open,
                (target, _) if stops.contains(&target) => return End::Stopped(rule.text.clone()),
                (called, part) if depth < DEEPEST => match self.walk(table, called, flow, stops, depth + 1) {
                    End::Stopped(_) if open => return End::Open,
                    End::Accepted if part == Matches::All => return End::Accepted,
                    End::Accepted | End::Open => open = true,
                    End::Stopped(rule) => return End::Stopped(rule),
                    End::Returned => {}
                },
                _ => {}
            }
        }
        match chain.policy.as_str() {
            _ if open => End::Open,
            policy if stops.contains(&policy) => End::Stopped(format!("-P {name} {policy}")),
            _ => End::Returned,
        }
    }
}

#[cfg(test)]
mod tests;
