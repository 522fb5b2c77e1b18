//! One rule, and whether it matches a flow. Pure.

use sextant_proto::Prefix;

use super::Flow;

/// Which packets of a flow a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matches {
    None,
    Some,
    All,
    /// It has a condition that is not understood.
    Unknown,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// As it is listed.
    pub(super) text: String,
    /// A verdict, or the chain that is called.
    pub(super) target: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    From(Prefix, bool),
    To(Prefix, bool),
    Input(String, bool),
    Output(String, bool),
    /// Whether new connections are among the states.
    New(bool),
    /// Anything else.
    Other,
}

impl Rule {
    /// A line like `-A FORWARD -s 2001:db8::/32 ! -o docker0 -j DROP`, with its chain.
    pub(super) fn parse(line: &str) -> Option<(String, Self)> {
        let mut words = line.split_whitespace().filter(|word| !word.is_empty());
        let chain = words.next().filter(|word| *word == "-A").and_then(|_| words.next())?.to_owned();
        let (mut conditions, mut target, mut not) = (Vec::new(), String::new(), false);
        while let Some(word) = words.next() {
            let negated = std::mem::take(&mut not);
            match word {
                "!" => not = true,
                "-j" | "-g" => {
                    words.next().unwrap_or_default().clone_into(&mut target);
                    break;
                }
                // A module says nothing before its options, and a comment never does.
                "-m" => drop(words.next()),
                "--comment" => skip_comment(&mut words),
                _ => {
                    let value = words.next().unwrap_or_default();
                    conditions.push(condition(word, value, !negated));
                }
            }
        }
        Some((chain, Self { text: line.to_owned(), target, conditions }))
    }

    /// Which packets of the flow it matches.
    pub(super) fn matches(&self, flow: &Flow) -> Matches {
        let parts = self.conditions.iter().map(|condition| condition.matches(flow));
        parts.fold(Matches::All, |all, part| match (all, part) {
            (Matches::None, _) | (_, Matches::None) => Matches::None,
            (Matches::Unknown, _) | (_, Matches::Unknown) => Matches::Unknown,
            (Matches::Some, _) | (_, Matches::Some) => Matches::Some,
            _ => Matches::All,
        })
    }
}

/// A comment of several words is in quotation marks.
fn skip_comment<'a>(words: &mut impl Iterator<Item = &'a str>) {
    let Some(first) = words.next().filter(|word| word.starts_with('"')) else { return };
    let ends = |word: &str| word.ends_with('"') && !word.ends_with("\\\"");
    if first.len() == 1 || !ends(first) {
        let _rest = words.find(|word| ends(word));
    }
}

fn condition(option: &str, value: &str, is: bool) -> Condition {
    let prefix = || {
        let text = if value.contains('/') { value.to_owned() } else { format!("{value}/128") };
        text.parse::<Prefix>().ok()
    };
    match option {
        "-s" => prefix().map_or(Condition::Other, |prefix| Condition::From(prefix, is)),
        "-d" => prefix().map_or(Condition::Other, |prefix| Condition::To(prefix, is)),
        "-i" => Condition::Input(value.to_owned(), is),
        "-o" => Condition::Output(value.to_owned(), is),
        "--ctstate" | "--state" => Condition::New(value.split(',').any(|state| state == "NEW") == is),
        _ => Condition::Other,
    }
}

impl Condition {
    fn matches(&self, flow: &Flow) -> Matches {
        match self {
            Self::From(prefix, is) => of_prefix(*prefix, flow.from, flow.host, *is),
            Self::To(prefix, is) => of_prefix(*prefix, flow.to, flow.host, *is),
            Self::Input(name, is) => of_interface(name, &flow.input, *is),
            Self::Output(name, is) => of_interface(name, &flow.output, *is),
            Self::New(true) => Matches::All,
            Self::New(false) => Matches::None,
            Self::Other => Matches::Unknown,
        }
    }
}

/// A part of the `host` prefix is none of the addresses at the flow's far end, which has the whole pool.
fn of_prefix(rule: Prefix, flow: Prefix, host: Prefix, is: bool) -> Matches {
    let within_host = flow != host && flow.covers(host) && host.covers(rule);
    match (rule.covers(flow), rule.overlaps(flow) && !within_host) {
        (true, _) => certain(is),
        (false, true) => Matches::Some,
        (false, false) => certain(!is),
    }
}

/// `+` at the end stands for anything.
fn of_interface(rule: &str, flow: &[String], is: bool) -> Matches {
    let named = |name: &String| match rule.strip_suffix('+') {
        Some(begin) => name.starts_with(begin),
        None => name == rule,
    };
    match flow.iter().filter(|name| named(name)).count() {
        0 => certain(!is),
        all if all == flow.len() => certain(is),
        _ => Matches::Some,
    }
}

fn certain(matches: bool) -> Matches {
    if matches { Matches::All } else { Matches::None }
}
