//! What the kernel says of its routes, taken in as it comes. Pure.

use std::collections::BTreeMap;

use super::map::{Entry, RouteMap};
use crate::kernel::{Route, RouteKey, RouteProtocol, RouteReader, RouteTarget};

/// Reads a dump of our routes beside what was known of them: as long as both are the same, nothing is kept twice.
#[derive(Debug)]
pub struct OursReader {
    known: RouteMap,
    /// So many of the known ones came, in their order, and nothing else.
    same: usize,
    /// All that came, once that was not all.
    fresh: Option<Vec<Entry>>,
}

impl OursReader {
    /// Reads beside `known`.
    pub fn beside(known: RouteMap) -> Self {
        Self { known, same: 0, fresh: None }
    }

    /// What there is.
    pub fn finish(self) -> RouteMap {
        match self.fresh {
            Some(fresh) => fresh.into(),
            None if self.same == self.known.len() => self.known,
            None => self.known.as_slice()[..self.same].to_vec().into(),
        }
    }
}

impl RouteReader for OursReader {
    fn begin(&mut self) {
        (self.same, self.fresh) = (0, None);
    }

    fn take(&mut self, route: Route) {
        if route.protocol != RouteProtocol::OURS {
            return;
        }
        let entry = (route.key, route.target);
        if self.fresh.is_none() && self.known.as_slice().get(self.same) == Some(&entry) {
            self.same += 1;
            return;
        }
        let so_far = || self.known.as_slice()[..self.same].to_vec();
        self.fresh.get_or_insert_with(so_far).push(entry);
    }
}

/// Others' routes, by their keys: the protocols and targets at each, in their order.
pub type Foreign = BTreeMap<RouteKey, Vec<(RouteProtocol, RouteTarget)>>;

/// Takes a route of another process in.
pub(super) fn take_foreign(foreign: &mut Foreign, route: Route) {
    if route.protocol == RouteProtocol::OURS {
        return;
    }
    // Almost all keys have one route.
    let known = foreign.entry(route.key).or_insert_with(|| Vec::with_capacity(1));
    let new = (route.protocol, route.target);
    if let Err(at) = known.binary_search(&new) {
        known.insert(at, new);
    }
}

/// Reads others' routes out of a dump of all of a table.
#[derive(Debug, Default)]
pub struct ForeignReader {
    /// The routes found so far.
    pub found: Foreign,
}

impl RouteReader for ForeignReader {
    fn begin(&mut self) {
        self.found.clear();
    }

    fn take(&mut self, route: Route) {
        take_foreign(&mut self.found, route);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::RouteTarget;

    fn routes() -> impl Strategy<Value = Vec<Route>> {
        let route =
            (0u16..6, 0u8..2, prop_oneof![9 => Just(66), 1 => Just(4)]).prop_map(|(n, kind, protocol)| {
                let destination = format!("2001:db8:{n}::/48").parse().unwrap();
                Route {
                    mtu: None,
                    key: RouteKey { table: 254, destination, metric: 512 },
                    protocol: RouteProtocol(protocol),
                    target: RouteTarget::Other(kind),
                }
            });
        proptest::collection::vec(route, 0..8)
    }

    fn read(reader: &mut impl RouteReader, routes: Vec<Route>) {
        reader.begin();
        routes.into_iter().for_each(|route| reader.take(route));
    }

    fn ours(routes: &[Route]) -> RouteMap {
        let ours = routes.iter().filter(|route| route.protocol == RouteProtocol::OURS);
        ours.map(|route| (route.key, route.target.clone())).collect()
    }

    proptest! {
        #[test]
        fn whatever_was_known_what_came_is_there(known in routes(), broken in routes(), whole in routes()) {
            let mut reader = OursReader::beside(ours(&known));
            read(&mut reader, broken);
            read(&mut reader, whole.clone());
            prop_assert_eq!(reader.finish(), ours(&whole));
        }

        #[test]
        fn equal_routes_are_stored_once(known in routes()) {
            let known = ours(&known);
            let again = known.iter().map(|(key, target)| Route { mtu: None, key: *key, protocol: RouteProtocol::OURS, target: target.clone() });
            let (mut reader, again) = (OursReader::beside(known.clone()), again.collect());
            read(&mut reader, again);
            prop_assert!(reader.finish().is_shared_with(&known));
        }
    }
}
