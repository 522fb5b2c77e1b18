//! Questions about sets of prefixes in address order. Pure.

use std::collections::BTreeMap;

use sextant_proto::Prefix;

/// What of `records` lies in `prefix`, itself included.
pub(crate) fn inside<T>(
    records: &BTreeMap<Prefix, T>,
    prefix: Prefix,
) -> impl Iterator<Item = (&Prefix, &T)> {
    records.range(prefix..=last_in(prefix))
}

/// Those of `taken`, none of which overlap each other, that overlap `prefix`.
pub(crate) fn overlapping<T>(
    taken: &BTreeMap<Prefix, T>,
    prefix: Prefix,
) -> impl Iterator<Item = (&Prefix, &T)> {
    let around = taken.range(..prefix).next_back().filter(|(other, _)| other.overlaps(prefix));
    around.into_iter().chain(inside(taken, prefix))
}

/// Two neighbours that overlap, if any do.
pub(crate) fn overlaps<T>(taken: &BTreeMap<Prefix, T>) -> Option<(Prefix, Prefix)> {
    let mut neighbours = taken.keys().zip(taken.keys().skip(1));
    neighbours.find(|(one, other)| one.overlaps(**other)).map(|(one, other)| (*one, *other))
}

fn last_in(prefix: Prefix) -> Prefix {
    Prefix::containing(prefix.last_addr(), 128).unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn set(texts: &[&str]) -> BTreeMap<Prefix, ()> {
        texts.iter().map(|text| (prefix(text), ())).collect()
    }

    #[test]
    fn what_overlaps_is_around_or_inside() {
        let taken = set(&["2001:db8::/64", "2001:db8:0:2::/63", "2001:db8:0:7::/64"]);
        for (asked, expected) in [
            ("2001:db8:0:1::/64", &[][..]),
            ("2001:db8::/64", &["2001:db8::/64"]),
            ("2001:db8:0:3::/64", &["2001:db8:0:2::/63"]),
            ("2001:db8::1/128", &["2001:db8::/64"]),
            ("2001:db8::/62", &["2001:db8::/64", "2001:db8:0:2::/63"]),
            ("2001:db8:0:4::/62", &["2001:db8:0:7::/64"]),
            ("2001:db8:0:8::/64", &[]),
        ] {
            let found: Vec<_> =
                overlapping(&taken, prefix(asked)).map(|(other, ())| other.to_string()).collect();
            assert_eq!(found, expected, "{asked}");
        }
    }

    #[test]
    fn two_of_a_set_that_overlap_are_found() {
        assert_eq!(overlaps(&set(&["2001:db8::/64", "2001:db8:0:1::/64"])), None);
        let nested = set(&["2001:db8::/64", "2001:db8:0:2::/63", "2001:db8:0:3::/64"]);
        assert_eq!(overlaps(&nested), Some((prefix("2001:db8:0:2::/63"), prefix("2001:db8:0:3::/64"))));
    }
}
