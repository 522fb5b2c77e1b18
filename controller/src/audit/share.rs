//! Which entries are deleted when there are too many: each principal has a share, so that a flood of one cannot wash out the entries
//! of the others. Pure.

use std::collections::BTreeMap;

/// The principal of an actor: it without its address, unless the address alone identifies it.
pub fn principal_of(by: &str) -> &str {
    match by.split_once(" at ") {
        Some(("anybody" | "nobody", _)) | None => by,
        Some((principal, _)) => principal,
    }
}

/// The positions of those entries that are too many for `most`: the oldest of the principals with the most entries. `principals` has
/// that of each entry, the oldest first.
pub fn surplus<'a>(principals: impl Iterator<Item = &'a str> + Clone, most: usize) -> Vec<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    principals.clone().for_each(|principal| *counts.entry(principal).or_default() += 1);
    let share = share(counts.values().copied().collect(), most);
    let mut gone = Vec::new();
    for (at, principal) in principals.enumerate() {
        let left = counts.entry(principal).or_default();
        if *left > share {
            gone.push(at);
            *left -= 1;
        }
    }
    gone
}

/// The largest number of entries for each principal with which all have at most `most`.
fn share(mut counts: Vec<usize>, most: usize) -> usize {
    counts.sort_unstable();
    let (mut left, mut principals) = (most, counts.len());
    for count in counts {
        let even = left / principals.max(1);
        if count > even {
            return even;
        }
        left -= count;
        principals -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_takes_from_its_own_share_only() {
        let mut principals = vec!["admin ann"; 50];
        principals.extend(vec!["node h1"; 12_000]);
        principals.extend(vec!["node h2"; 300]);
        let gone = surplus(principals.iter().copied(), 10_000);
        assert_eq!(gone.len(), principals.len() - 10_000);
        assert!(gone.iter().all(|at| principals[*at] == "node h1"));
        assert_eq!(gone.first(), Some(&50), "the oldest ones");
    }

    #[test]
    fn several_floods_have_the_same_share() {
        let principals: Vec<&str> = (0..3000).map(|n| ["a", "b", "c"][n % 3]).chain(["d"; 10]).collect();
        let gone = surplus(principals.iter().copied(), 310);
        let kept = |who: &str| {
            let all = principals.iter().enumerate();
            all.filter(|(at, principal)| **principal == who && !gone.contains(at)).count()
        };
        assert_eq!(["a", "b", "c", "d"].map(kept), [100, 100, 100, 10]);
        assert!(surplus(principals.iter().copied(), 5000).is_empty());
        assert!(surplus([].into_iter(), 10).is_empty());
    }

    #[test]
    fn a_principal_is_known_without_its_address() {
        assert_eq!(principal_of("node h1 at fd00::1"), "node h1");
        assert_eq!(principal_of("controller"), "controller");
        assert_eq!(principal_of("anybody at fd00::1"), "anybody at fd00::1");
    }
}
