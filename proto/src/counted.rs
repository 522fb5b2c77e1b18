//! Numbers with their nouns, for people.

use std::fmt::Display;

/// `1 node`, `2 nodes`; the noun is in the singular.
pub fn counted<N: Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    if n == N::from(1) { format!("{n} {noun}") } else { format!("{n} {}", plural(noun)) }
}

fn plural(noun: &str) -> String {
    if noun.ends_with(['s', 'x']) { format!("{noun}es") } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_others_are_plural() {
        let of = |noun| [0_usize, 1, 2].map(|n| counted(n, noun)).join(", ");
        assert_eq!(of("claim"), "0 claims, 1 claim, 2 claims");
        assert_eq!(of("host prefix"), "0 host prefixes, 1 host prefix, 2 host prefixes");
        assert_eq!(counted(1_u64, "key"), "1 key");
    }
}
