//! Reports of what the responder knows. The change of an address costs what has changed: there may be thousands.

use std::{collections::BTreeSet, io};

use tokio::time::Instant;

use super::{REPORT_EVERY, RETRY, Responder};
use crate::groups::every;

impl Responder {
    pub(super) fn join(&mut self) -> io::Result<()> {
        let uplinks: Vec<_> = self.proxy.place().uplinks.iter().map(|uplink| uplink.link).collect();
        self.groups.follow(&uplinks, self.proxy.alive())
    }

    /// Reports the addresses in use as soon as they change.
    pub(super) fn report_alive(&mut self) {
        let containers = self.proxy.containers();
        let changed = self.reported.and_then(|reported| containers.since(reported));
        let changed: Option<BTreeSet<_>> = changed.map(Iterator::collect);
        self.reported = Some(containers.revision());
        let Some(changed) = changed else { return self.report_all() };
        if changed.is_empty() {
            return;
        }
        let Self { proxy, groups, .. } = self;
        let joined = every(changed.iter().map(|it| groups.set(*it, proxy.is_alive(*it))));
        self.retry_unless(joined);
        let (proxy, groups) = (&self.proxy, self.groups.len());
        self.known.send_if_modified(|known| {
            known.groups = groups;
            let alive = known.alive.get_or_insert_default();
            changed.into_iter().filter(|it| alive.set(*it, proxy.is_alive(*it))).count() > 0
        });
    }

    fn report_all(&mut self) {
        let joined = self.join();
        self.retry_unless(joined);
        let (proxy, groups) = (&self.proxy, self.groups.len());
        self.known.send_if_modified(|known| {
            known.groups = groups;
            let is_first = known.alive.is_none();
            known.alive.get_or_insert_default().replace(proxy.alive()) || is_first
        });
    }

    fn retry_unless(&mut self, joined: io::Result<()>) {
        if joined.is_err() {
            self.retry_at.get_or_insert(Instant::now() + RETRY);
        }
    }

    pub(super) fn report_soon(&mut self) {
        let soon = self.reported_at + REPORT_EVERY;
        self.report_at = Some(self.report_at.map_or(soon, |at| at.min(soon)));
    }

    /// Reports the rest of what has changed.
    pub(super) fn report_rest(&mut self) {
        let now = Instant::now();
        let (others, unheeded) = (self.proxy.others(now), self.proxy.unheeded(now));
        let (counts, invalid, groups) = (self.proxy.counts(), self.invalid, self.groups.len());
        // Counts alone are no news: metrics read them.
        self.known.send_if_modified(|known| {
            let is_new = known.others != others || known.unheeded != unheeded;
            (known.others, known.unheeded) = (others, unheeded);
            (known.invalid, known.groups) = (invalid, groups);
            known.counts.clone_from(counts);
            is_new
        });
        (self.reported_at, self.report_at) = (now, self.proxy.next_fewer());
    }
}
