//! Lines that differ in names only, as one line: a cause that affects many prefixes of a node is read once.

use std::hash::Hash;

/// Fewer lines stay apart.
const LEAST: usize = 3;
/// The largest number of listed differences.
const LISTED: usize = 10;

/// A line, or several in one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// The positions of its parts in the input.
    pub(crate) parts: Vec<usize>,
}

/// The lines in their order. Those with the same key and with at least half of their words in common become one, at the place
/// of the first: its text, then the words by which the others differ from it. A line without a key stays as it is.
pub(crate) fn folded<K: Eq + Hash>(lines: &[(Option<K>, String)]) -> Vec<Line> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, (key, text)) in lines.iter().enumerate() {
        let is_alike = |group: &&mut Vec<usize>| {
            let (first_key, first) = &lines[group[0]];
            key.is_some() && first_key == key && are_alike(first, text)
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let mut all: Vec<_> = groups.into_iter().flat_map(|group| joined(lines, group)).collect();
    all.sort_by_key(|line| line.parts[0]);
    all
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn are_alike(a: &str, b: &str) -> bool {
    let (a, b) = (words(a), words(b));
    let differing = a.iter().zip(&b).filter(|(a, b)| a != b).count();
    a.len() == b.len() && differing * 2 <= a.len()
}

fn joined<K>(lines: &[(Option<K>, String)], group: Vec<usize>) -> Vec<Line> {
    let text = |at: usize| lines[at].1.as_str();
    if group.len() < LEAST {
        return group.into_iter().map(|at| Line { text: text(at).to_owned(), parts: vec![at] }).collect();
    }
    let all: Vec<_> = group.iter().map(|at| words(text(*at))).collect();
    let (first, others) = (&all[0], &all[1..]);
    let varies = |at: &usize| others.iter().any(|words| words[*at] != first[*at]);
    let varying: Vec<_> = (0..first.len()).filter(varies).collect();
    let mut differences: Vec<_> = others.iter().map(|words| difference(words, &varying)).collect();
    let more = differences.len().saturating_sub(LISTED);
    differences.truncate(LISTED);
    let listed = differences.join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{} ({} more like this: {listed}{more})", text(group[0]), others.len());
    vec![Line { text, parts: group }]
}

/// The words at these places, each once.
fn difference(words: &[&str], places: &[usize]) -> String {
    let mut named: Vec<&str> = Vec::new();
    for place in places {
        let word = words[*place].trim_matches([',', ';', ':', '`', '"', '(', ')']);
        if !named.contains(&word) {
            named.push(word);
        }
    }
    named.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(lines: &[(&str, &str)]) -> Vec<String> {
        let lines: Vec<_> = lines
            .iter()
            .map(|(key, text)| (Some(*key).filter(|key| !key.is_empty()), (*text).to_owned()))
            .collect();
        folded(&lines).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_of_one_kind_become_one_with_their_names() {
        let lost =
            |pool: &str| format!("prefix of pool {pool} is not used: disk full; free space, then see {pool}");
        let (a, b, c) = (lost("a"), lost("b"), lost("c"));
        let read = [("full", a.as_str()), ("other", "an uplink is down"), ("full", &b), ("full", &c)];
        let joined = format!("{a} (2 more like this: b, c)");
        assert_eq!(fold(&read), [joined.as_str(), "an uplink is down"]);
    }

    #[test]
    fn other_kinds_other_texts_and_two_lines_stay_apart() {
        for lines in [
            [("k", "route a failed"), ("k", "route b failed"), ("l", "route c failed")],
            [("k", "route a failed"), ("k", "route b failed"), ("k", "the brake holds what remains")],
            [("k", "route a failed"), ("k", "route b failed"), ("k", "route c failed again")],
            [("", "route a failed"), ("", "route b failed"), ("", "route c failed")],
        ] {
            assert_eq!(fold(&lines), lines.map(|(_, text)| text));
        }
    }

    #[test]
    fn a_long_list_ends_with_a_number_and_each_difference_is_named() {
        let lines: Vec<_> =
            (0..16).map(|n| (Some("k"), format!("route {n} failed: error {}", n % 2))).collect();
        let [only] = &folded(&lines)[..] else { panic!("not one line") };
        assert_eq!(
            only.text,
            "route 0 failed: error 0 (15 more like this: 1, 2 0, 3 1, 4 0, 5 1, 6 0, 7 1, 8 0, 9 1, 10 0 and 5 more)"
        );
        assert_eq!(only.parts, (0..16).collect::<Vec<_>>());
    }
}
