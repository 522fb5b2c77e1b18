//! A set that mostly has one element. Pure.

use std::collections::BTreeSet;

/// One element or more. A [`BTreeSet`] has room for eleven in its smallest form, which is much memory where nearly all have one.
#[derive(Debug)]
pub enum Few<T> {
    /// One.
    One(T),
    /// At least two.
    More(BTreeSet<T>),
}

impl<T: Ord + Clone> Few<T> {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, more) = match self {
            Self::One(one) => (Some(one), None),
            Self::More(more) => (None, Some(more)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    /// Adds an element, if it is not in.
    pub fn insert(&mut self, element: T) {
        match self {
            Self::One(one) if *one == element => {}
            Self::One(one) => *self = Self::More([one.clone(), element].into()),
            Self::More(more) => {
                more.insert(element);
            }
        }
    }

    /// Takes an element away. Returns whether nothing is left: then the whole must be dropped.
    pub fn remove(&mut self, element: &T) -> bool {
        match self {
            Self::One(one) => one == element,
            Self::More(more) => {
                more.remove(element);
                if more.len() == 1
                    && let Some(last) = more.pop_first()
                {
                    *self = Self::One(last);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), 0u8..5), 1..30)) {
            let (mut few, mut model) = (Some(Few::One(9)), BTreeSet::from([9]));
            for (insert, element) in steps {
                match (&mut few, insert) {
                    (Some(few), true) => few.insert(element),
                    (none, true) => *none = Some(Few::One(element)),
                    (some, false) => {
                        if some.as_mut().is_some_and(|few| few.remove(&element)) {
                            *some = None;
                        }
                    }
                }
                if insert { model.insert(element); } else { model.remove(&element); }
                prop_assert!(few.iter().flat_map(Few::iter).eq(&model));
            }
        }
    }
}
