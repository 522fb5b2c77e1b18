//! The rules that take packets, as status shows them. Pure.

use sextant_proto::Prefix;

use super::{Does, Flow, Policy, Taken, Traffic};
use crate::{
    advice::{about_rule, delete_rule, route_text, rule_words},
    kernel::{Link, MAIN_TABLE, RuleAction},
    problems::Finding,
};

impl Policy<'_> {
    /// Each rule that takes packets, with its fix. `pools` are those of the cluster.
    pub fn findings(&self, flows: &[Flow<'_>], pools: &[Prefix], links: &[Link]) -> Vec<Finding> {
        let judgement = self.judge(flows);
        let mut found: Vec<_> = judgement.taken.iter().map(|it| self.finding(it, pools, links)).collect();
        // Without any rule for our table, `host` reports that.
        let is_used = self.rules.iter().any(|rule| rule.action == RuleAction::Table(self.table));
        if let Some((_, to)) = judgement.unreached.first().filter(|_| is_used) {
            found.push(self.without_rule(&judgement.unreached, *to));
        }
        found
    }

    fn finding(&self, Taken { rule, packets }: &Taken<'_>, pools: &[Prefix], links: &[Link]) -> Finding {
        let (_, to, does) = packets[0];
        let does = match does {
            Does::Refuses(kind) => format!("are refused ({kind})"),
            Does::Leads(key, target) => format!("take {}", route_text(&key, target, links)),
            Does::Skips => "skip the rules that lead there".to_owned(),
        };
        Finding::new(
            "policy-rule",
            format!(
                "rule {}: {} is evaluated before routing table {} for {}: those to {to} {does}",
                rule.priority,
                rule_words(rule),
                self.table,
                named(packets.iter().map(|(traffic, ..)| *traffic)),
            ),
            format!(
                "remove the rule (`{}`), also where it is configured; or, if other packets need it, add one before it: `{}`",
                delete_rule(rule),
                about_rule(rule, self.table, pools)
            ),
        )
    }

    fn without_rule(&self, unreached: &[(Traffic, Prefix)], to: Prefix) -> Finding {
        let table = if self.table == MAIN_TABLE { "main".to_owned() } else { self.table.to_string() };
        Finding::unready(
            "table-without-rule",
            format!(
                "no rule leads {} to routing table {}, e.g. those to {to}",
                named(unreached.iter().map(|(traffic, _)| *traffic)),
                self.table
            ),
            format!(
                "add the rule again: `ip -6 rule add lookup {table} pref 32766`, and find the process that removed it"
            ),
        )
    }
}

fn named(traffic: impl Iterator<Item = Traffic>) -> String {
    traffic.map(|it| it.to_string()).collect::<Vec<_>>().join(", ")
}
