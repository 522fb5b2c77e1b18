//! Whether what claimers were told, and what the store holds in the end, can be true together. Pure.
//!
//! A word that came surely happened; a refusal surely did nothing; where no word came, either may be.

use std::{collections::BTreeMap, fmt, time::Duration};

use sextant_proto::Prefix;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A prefix.
    Claim,
    /// That the claim ends.
    End,
}

/// What was heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was done; of a claim, with this prefix.
    Done(Option<Prefix>),
    /// It was not done.
    Refused,
    /// Nothing is known.
    Unknown,
}

/// One thing that was asked for a node. Those of one node do not overlap in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The node.
    pub node: String,
    /// What was asked.
    pub asked: Asked,
    /// When it was asked, since the beginning.
    pub began: Duration,
    /// When the answer was there.
    pub ended: Duration,
    /// The answer.
    pub heard: Heard,
}

/// Why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a node may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    Surely { prefix: Prefix, since: Duration },
    Perhaps,
}

/// That a node surely held a prefix from one moment to another.
#[derive(Debug, Clone)]
struct Held {
    prefix: Prefix,
    node: String,
    from: Duration,
    to: Duration,
}

/// All that cannot be. `last` is what the store holds once everything is at rest.
pub fn check(events: &[Event], last: &[(Prefix, String)]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_node: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_node.entry(&event.node).or_default().push(event);
    }
    let mut in_store: BTreeMap<&str, Vec<Prefix>> = BTreeMap::new();
    for (prefix, node) in last {
        in_store.entry(node).or_default().push(*prefix);
    }
    let mut held = Vec::new();
    for (node, mut events) in by_node {
        events.sort_by_key(|event| event.began);
        let now = follow(node, &events, &mut held, &mut found);
        let stored = in_store.get(node).map_or(&[][..], Vec::as_slice);
        found.extend(at_last(node, now, stored));
    }
    for (node, prefixes) in in_store.iter().filter(|(_, prefixes)| prefixes.len() > 1) {
        found.push(Violation(format!("{node} has two in the store: {prefixes:?}")));
    }
    let end = Duration::MAX;
    let stored =
        last.iter().map(|(prefix, node)| Held { prefix: *prefix, node: node.clone(), from: end, to: end });
    found.extend(overlaps(stored.collect(), "in the store"));
    found.extend(overlaps(held, "at one time"));
    found
}

/// A node's events in their order; what it may hold after them.
fn follow(node: &str, events: &[&Event], held: &mut Vec<Held>, found: &mut Vec<Violation>) -> Holds {
    let mut now = Holds::Nothing;
    // What no word came of may also be done later, once who was asked goes on.
    let (mut late_claim, mut late_end) = (false, false);
    for event in events {
        late_claim |= event.asked == Asked::Claim && event.heard == Heard::Unknown;
        late_end |= event.asked == Asked::End && event.heard == Heard::Unknown;
        now = match (event.asked, event.heard, now) {
            (Asked::Claim, Heard::Done(Some(_)), _) if late_end => Holds::Perhaps,
            (Asked::Claim, Heard::Done(Some(prefix)), Holds::Surely { prefix: before, since }) => {
                if before != prefix {
                    found.push(Violation(format!("{node} held {before}, and was told {prefix}")));
                }
                Holds::Surely { prefix, since }
            }
            (Asked::Claim, Heard::Done(Some(prefix)), _) => Holds::Surely { prefix, since: event.ended },
            (Asked::Claim, Heard::Unknown, Holds::Nothing) => Holds::Perhaps,
            (Asked::End, heard, Holds::Surely { prefix, since }) if heard != Heard::Refused => {
                held.push(Held { prefix, node: node.to_owned(), from: since, to: event.began });
                if late_claim || late_end { Holds::Perhaps } else { Holds::Nothing }
            }
            (Asked::End, Heard::Done(_), _) if !late_claim => Holds::Nothing,
            (_, _, now) => now,
        };
    }
    if let Holds::Surely { prefix, since } = now {
        held.push(Held { prefix, node: node.to_owned(), from: since, to: Duration::MAX });
    }
    now
}

fn at_last(node: &str, now: Holds, stored: &[Prefix]) -> Option<Violation> {
    match now {
        Holds::Surely { prefix, .. } if stored != [prefix] => {
            Some(Violation(format!("{node} was told {prefix}, and the store has {stored:?}")))
        }
        Holds::Nothing if !stored.is_empty() => {
            Some(Violation(format!("{node} holds nothing, and the store has {stored:?}")))
        }
        _ => None,
    }
}

/// Those of two nodes that share addresses and a moment.
fn overlaps(mut held: Vec<Held>, when: &str) -> Vec<Violation> {
    held.sort_by_key(|it| it.prefix);
    let mut found = Vec::new();
    for (n, one) in held.iter().enumerate() {
        // In this order, all that share addresses with a prefix follow it at once.
        for other in held[n + 1..].iter().take_while(|other| one.prefix.overlaps(other.prefix)) {
            let together = one.from <= other.to && other.from <= one.to;
            if together && (one.node != other.node || one.from == Duration::MAX) {
                let (a, b) = (&one.node, &other.node);
                found.push(Violation(format!(
                    "{} of {a} and {} of {b} overlap {when}",
                    one.prefix, other.prefix
                )));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, asked: Asked, at: u64, heard: Heard) -> Event {
        let (began, ended) = (Duration::from_secs(at), Duration::from_secs(at + 1));
        Event { node: node.into(), asked, began, ended, heard }
    }

    fn got(node: &str, at: u64, prefix: &str) -> Event {
        event(node, Asked::Claim, at, Heard::Done(Some(prefix.parse().unwrap())))
    }

    fn stored(all: &[(&str, &str)]) -> Vec<(Prefix, String)> {
        all.iter().map(|(prefix, node)| (prefix.parse().unwrap(), (*node).to_owned())).collect()
    }

    fn found(events: &[Event], last: &[(&str, &str)]) -> String {
        check(events, &stored(last)).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    const A: &str = "2001:db8:1::/64";
    const IN_A: &str = "2001:db8:1::/72";
    const B: &str = "2001:db8:2::/64";

    #[test]
    fn what_can_be_is_let_pass() {
        let ended = event("a", Asked::End, 2, Heard::Done(None));
        let no_word = event("c", Asked::Claim, 1, Heard::Unknown);
        let perhaps_ended = event("b", Asked::End, 8, Heard::Unknown);
        let refused = event("d", Asked::Claim, 8, Heard::Refused);
        let events =
            [got("a", 0, A), ended, got("b", 4, IN_A), got("b", 6, IN_A), no_word, perhaps_ended, refused];
        for last in [&[][..], &[(IN_A, "b")], &[(B, "c")], &[(IN_A, "b"), (B, "c")]] {
            assert_eq!(found(&events, last), "");
        }
    }

    #[test]
    fn what_no_word_came_of_may_be_done_later() {
        let late = event("a", Asked::Claim, 0, Heard::Unknown);
        let events = [late, event("a", Asked::End, 2, Heard::Done(None))];
        assert_eq!(found(&events, &[(A, "a")]), "");
        let late = event("a", Asked::End, 2, Heard::Unknown);
        assert_eq!(found(&[got("a", 0, A), late, got("a", 4, A)], &[]), "");
    }

    #[test]
    fn a_lost_claim_is_found() {
        assert!(found(&[got("a", 0, A)], &[]).contains("a was told 2001:db8:1::/64, and the store has []"));
        assert!(found(&[got("a", 0, A)], &[(B, "a")]).contains("a was told"));
    }

    #[test]
    fn a_doubled_claim_is_found() {
        let text = found(&[got("a", 0, A), got("b", 2, IN_A)], &[(A, "a"), (IN_A, "b")]);
        assert!(text.contains("overlap in the store") && text.contains("overlap at one time"), "{text}");
        let ended = event("b", Asked::End, 6, Heard::Done(None));
        let text = found(&[got("a", 0, A), got("b", 2, IN_A), ended], &[(A, "a")]);
        assert!(text.contains("overlap at one time"), "also if it is gone at the end: {text}");
        assert!(found(&[], &[(A, "a"), (B, "a")]).contains("a has two in the store"));
    }

    #[test]
    fn a_seized_claim_is_found() {
        assert!(
            found(&[got("a", 0, A), got("a", 2, B)], &[(B, "a")])
                .contains("held 2001:db8:1::/64, and was told")
        );
    }

    #[test]
    fn a_claim_that_does_not_end_is_found() {
        let events = [got("a", 0, A), event("a", Asked::End, 2, Heard::Done(None))];
        assert!(found(&events, &[(A, "a")]).contains("a holds nothing, and the store has"));
    }
}
