//! Rules of the routing policy that take the cluster's packets before the kernel looks into our table. Pure.
//!
//! A rule for all packets is not judged here: `conflicts` names the routes by which it takes any. A rule for some of them refuses
//! them, leads them to a table with other routes than ours, or past our table. The kernel evaluates rules in their order, until a
//! table has a route (`fib_rules_lookup`, `fib6_rule_action`). A rule by which packets fare the same is no fault.

mod findings;
mod flow;

use std::collections::BTreeMap;

use sextant_proto::Prefix;

pub use flow::{Flow, Place, Traffic};

use super::{Foreign, conflicts::leads_alike, map::common_ancestor};
use crate::kernel::{LOCAL_TABLE, RouteKey, RouteTarget, Rule, RuleAction, Share};

/// The rules, and what they decide about.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// All rules, in the kernel's order.
    pub rules: &'a [Rule],
    /// Our table.
    pub table: u32,
    /// Others' routes in the tables of [`selected`].
    pub others: &'a Foreign,
}

/// What a rule does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does<'a> {
    /// It refuses or drops them.
    Refuses(&'static str),
    /// It leads them to this route.
    Leads(RouteKey, &'a RouteTarget),
    /// The rules that lead to our table are skipped.
    Skips,
}

/// A rule that takes packets, with the first destination of each kind of traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The packets that it takes, and what it does with them.
    pub packets: Vec<(Traffic, Prefix, Does<'a>)>,
}

impl<'a> Taken<'a> {
    fn add(&mut self, traffic: Traffic, to: Prefix, does: Does<'a>) {
        if self.packets.iter().all(|(it, ..)| *it != traffic) {
            self.packets.push((traffic, to, does));
        }
    }
}

/// What the rules do with packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The rules that take some, in their order.
    pub taken: Vec<Taken<'a>>,
    /// The kinds of packets that no rule leads to our table, each with a destination.
    pub unreached: Vec<(Traffic, Prefix)>,
}

/// What becomes of packets to one destination.
enum Fate<'a> {
    /// They fare as our table has it.
    Right,
    Taken(usize, Does<'a>),
    /// No rule leads them to our table.
    Unreached,
}

/// The tables that rules for some packets lead to, except our `table`.
pub fn selected(rules: &[Rule], table: u32) -> impl Iterator<Item = u32> {
    rules.iter().filter_map(move |rule| match rule.action {
        RuleAction::Table(to) if is_selective(rule) && ![0, LOCAL_TABLE, table].contains(&to) => Some(to),
        _ => None,
    })
}

/// Whether a rule is for some packets only, so that there is anything to judge.
pub fn is_judged(rules: &[Rule]) -> bool {
    rules.iter().any(is_selective)
}

/// Whether a rule is for some packets only, as far as ordinary ones are concerned.
fn is_selective(rule: &Rule) -> bool {
    let is_for_none = !rule.inverted && rule.further.met_by == Share::None;
    (rule.conditional || rule.from.is_some() || rule.to.is_some()) && !is_for_none
}

impl<'a> Policy<'a> {
    /// What the rules do with the packets of these flows; nothing where all rules are for all packets.
    pub fn judge(&self, flows: &[Flow<'_>]) -> Judgement<'a> {
        let mut judgement = Judgement::default();
        if !is_judged(self.rules) {
            return judgement;
        }
        let mut taken: BTreeMap<usize, Taken<'a>> = BTreeMap::new();
        for flow in flows.iter().filter(|flow| !flow.is_empty()) {
            let shares: Vec<_> = self.rules.iter().map(|rule| flow.share(rule)).collect();
            for (to, expected) in &flow.destinations {
                match self.fate(&shares, *to, *expected) {
                    Fate::Right => {}
                    Fate::Taken(at, does) => taken
                        .entry(at)
                        .or_insert_with(|| Taken { rule: &self.rules[at], packets: Vec::new() })
                        .add(flow.traffic, *to, does),
                    Fate::Unreached if judgement.unreached.iter().all(|(it, _)| *it != flow.traffic) => {
                        judgement.unreached.push((flow.traffic, *to));
                    }
                    Fate::Unreached => {}
                }
            }
        }
        judgement.taken = taken.into_values().collect();
        judgement
    }

    fn fate(&self, shares: &[Share], to: Prefix, expected: Option<&RouteTarget>) -> Fate<'a> {
        let (mut at, mut jumped) = (0, None);
        while let Some(rule) = self.rules.get(at) {
            let (this, share) = (at, matches(rule, shares[at], to));
            at += 1;
            match rule.action {
                _ if share == Share::None => {}
                RuleAction::Table(table) if table == self.table => {
                    if share == Share::All && !is_suppressed(rule, to.len()) {
                        return Fate::Right;
                    }
                }
                RuleAction::Table(_) => match self.by_table(rule, to, expected) {
                    ByTable::Elsewhere(key, target) => {
                        return Fate::Taken(this, Does::Leads(key, target));
                    }
                    ByTable::Alike if share == Share::All => return Fate::Right,
                    ByTable::Alike | ByTable::Nothing => {}
                },
                RuleAction::Refuse(kind) => return Fate::Taken(this, Does::Refuses(kind)),
                RuleAction::Goto(priority) => {
                    let next = self.rules.partition_point(|rule| rule.priority < priority).max(at);
                    if share == Share::All {
                        (at, jumped) = (next, jumped.or(Some(this)));
                    } else if self.is_unreached(&self.rules[next..], &shares[next..], to) {
                        return Fate::Taken(this, Does::Skips);
                    }
                }
                RuleAction::Other => {}
            }
        }
        jumped.map_or(Fate::Unreached, |at| Fate::Taken(at, Does::Skips))
    }

    /// Whether none of these rules leads packets to our table.
    fn is_unreached(&self, rules: &[Rule], shares: &[Share], to: Prefix) -> bool {
        let leads = |(rule, share): (&Rule, &Share)| {
            rule.action == RuleAction::Table(self.table) && matches(rule, *share, to) != Share::None
        };
        !rules.iter().zip(shares).any(leads)
    }

    /// What the table of a rule does with packets to a destination.
    fn by_table(&self, rule: &Rule, to: Prefix, expected: Option<&RouteTarget>) -> ByTable<'a> {
        let (RuleAction::Table(table), Some(expected)) = (rule.action, expected) else {
            return ByTable::Nothing;
        };
        if !is_selective(rule) || [0, LOCAL_TABLE].contains(&table) {
            return ByTable::Nothing;
        }
        let part = rule.to.filter(|it| !rule.inverted && to.covers(*it)).unwrap_or(to);
        let counts = |key: &RouteKey, target: &RouteTarget| {
            !is_suppressed(rule, key.destination.len()) && *target != RouteTarget::THROW
        };
        let around = self.around(table, part).filter(|(key, target)| counts(key, target));
        let inside = || self.inside(table, part).filter(|(key, target)| counts(key, target));
        let elsewhere = |(_, target): &(RouteKey, &RouteTarget)| !leads_alike(expected, target);
        match around.into_iter().chain(inside()).find(elsewhere) {
            Some((key, target)) => ByTable::Elsewhere(key, target),
            None if around.is_some() => ByTable::Alike,
            None => ByTable::Nothing,
        }
    }

    /// The longest route around a destination, or to it.
    fn around(&self, table: u32, to: Prefix) -> Option<(RouteKey, &'a RouteTarget)> {
        let mut up_to = RouteKey { table, destination: to, metric: u32::MAX };
        loop {
            let (last, _) = self.others.range(..=up_to).next_back().filter(|(key, _)| key.table == table)?;
            if last.destination.covers(to) {
                let first = RouteKey { metric: 0, ..*last };
                return self.others.range(first..).find_map(best);
            }
            up_to.destination = common_ancestor(last.destination, to);
        }
    }

    /// The routes inside of a destination.
    fn inside(&self, table: u32, to: Prefix) -> impl Iterator<Item = (RouteKey, &'a RouteTarget)> {
        let from = self.others.range(RouteKey { table, destination: to, metric: u32::MAX }..);
        from.take_while(move |(key, _)| key.table == table && to.covers(key.destination))
            .filter(move |(key, _)| key.destination != to)
            .filter_map(best)
    }
}

/// What a table does with packets.
enum ByTable<'a> {
    /// It has no route for them.
    Nothing,
    /// The same as ours.
    Alike,
    Elsewhere(RouteKey, &'a RouteTarget),
}

type Known<'a> = (&'a RouteKey, &'a Vec<(crate::kernel::RouteProtocol, RouteTarget)>);

fn best<'a>((key, known): Known<'a>) -> Option<(RouteKey, &'a RouteTarget)> {
    known.first().map(|(_, target)| (*key, target))
}

/// The share of packets to a destination that a rule matches, by the share without it.
fn matches(rule: &Rule, share: Share, to: Prefix) -> Share {
    let by_destination = match rule.to {
        None => Share::All,
        Some(it) if it.covers(to) => Share::All,
        Some(it) if to.covers(it) => Share::Some,
        Some(_) => Share::None,
    };
    let share = share.and(by_destination);
    if rule.inverted { share.inverted() } else { share }
}

/// Whether the rule ignores routes of this length.
fn is_suppressed(rule: &Rule, len: u8) -> bool {
    rule.suppress_prefix_len.is_some_and(|suppressed| u32::from(len) <= suppressed)
}

#[cfg(test)]
mod tests;
