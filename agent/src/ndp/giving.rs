//! What the responder is given.

use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};

use sextant_docker::live::Live;
use sextant_proto::Prefix;
use tokio::time::Instant;

use super::{
    Running,
    findings::{self, Seen},
    place,
};
use crate::{containers, problems::Component};

/// The addresses of the engine's containers.
#[derive(Debug, Default)]
pub(super) struct Engine {
    live: Option<Arc<Live>>,
    prefixes: Vec<Prefix>,
    addresses: Arc<BTreeSet<Ipv6Addr>>,
}

impl Engine {
    /// Those inside of these prefixes.
    fn addresses(
        &mut self,
        known: Option<&containers::Known>,
        prefixes: &[Prefix],
    ) -> &Arc<BTreeSet<Ipv6Addr>> {
        let live = known.and_then(|known| known.borrow().clone());
        let is_same = match (&live, &self.live) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if !is_same || self.prefixes != prefixes {
            let running = live.iter().flat_map(|live| live.containers.values());
            let all = running.flat_map(|it| &it.addresses).map(|(_, addr)| *addr);
            let inside = all.filter(|addr| prefixes.iter().any(|prefix| prefix.contains(*addr))).collect();
            if *self.addresses != inside {
                self.addresses = Arc::new(inside);
            }
            (self.live, self.prefixes) = (live, prefixes.to_vec());
        }
        &self.addresses
    }
}

impl Running {
    /// Tells the responder where it stands; while that is not known, it stays where it was.
    pub(super) fn give(&mut self) {
        if self.facts_are_stale {
            return;
        }
        let claims = self.proxy.input.borrow_and_update().claims.clone();
        self.prefixes.follow(&claims, self.proxy.report.borrow_and_update().announcement.as_ref());
        let uplinks = self.proxy.uplinks.borrow_and_update().clone();
        self.moved.follow(&claims, Instant::now());
        let stand = place::Stand {
            settings: &self.proxy.settings,
            facts: &self.facts,
            prefixes: &self.prefixes,
            moved: self.moved.prefixes(),
            uplinks: &uplinks,
            reach: &self.reach,
        };
        let entries: usize = self.entries_on(&uplinks).values().sum();
        self.proxy.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        let findings = findings::all(&Seen {
            settings: &self.proxy.settings,
            facts: &self.facts,
            claims: &claims,
            uplinks: &uplinks,
            known: &self.known.borrow(),
            entries: self.kept.entries(),
            faults: &self.faults,
            now: Instant::now(),
        });
        self.proxy.problems.report(Component::Ndp, findings);
        let place = stand.place();
        let Self { kept, engine, facts, reach, .. } = self;
        let expected = engine.addresses(self.proxy.containers.as_ref(), self.prefixes.now());
        self.given.send_if_modified(|given| {
            let is_new = given.place != place
                || !Arc::ptr_eq(&given.expected, expected)
                || given.losses.count() != facts.losses().count()
                || given.arrivals != facts.arrivals();
            (given.ports, given.arrivals) = (facts.ports(), facts.arrivals());
            if is_new {
                given.place = place;
                given.expected = expected.clone();
                given.losses.clone_from(facts.losses());
            }
            kept.note_answered(&mut given.kernel, reach) || is_new
        });
    }
}
