//! The kernel's entries are kept as the addresses in use demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_ndp::{proxy::Source, tracked::Tracked};

use super::{
    Running,
    entries::{self, Entries, Plan},
    reach::Reach,
};
use crate::{kernel::ProxyEntry, uplinks::LocalUplink};

/// Addresses of which something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    /// Any of them.
    All,
    /// These.
    Only(BTreeSet<Ipv6Addr>),
}

/// The kernel's entries, and what they were last compared with.
#[derive(Debug)]
pub(super) struct Kept {
    entries: Entries,
    /// The revision of the addresses in use that they were compared with; `None` if all are to be compared.
    compared: Option<u64>,
    /// A change of them has failed.
    failed: bool,
    /// Whether the kernel answers by them.
    serve: bool,
    /// The addresses for which that is to be looked at again.
    touched: Touched,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            entries: Entries::default(),
            compared: None,
            failed: false,
            serve: false,
            touched: Touched::All,
        }
    }
}

impl Kept {
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// They were read.
    pub(super) fn read(&mut self, all: &[ProxyEntry]) {
        if self.entries.replace(all) || std::mem::take(&mut self.failed) {
            self.reach_changed();
        }
    }

    /// Another set of uplinks is theirs.
    pub(super) fn reach_changed(&mut self) {
        (self.compared, self.touched) = (None, Touched::All);
    }

    /// Whether the kernel answers by its entries.
    pub(super) fn serve(&mut self, serve: bool) {
        if std::mem::replace(&mut self.serve, serve) != serve {
            self.touched = Touched::All;
        }
    }

    /// The changes that the addresses in use demand. Only those that have changed are compared, if nothing else has.
    pub(super) fn plan(&mut self, alive: &Tracked<Ipv6Addr>, reach: &Reach) -> Plan {
        match self.compared.replace(alive.revision()).and_then(|compared| alive.since(compared)) {
            Some(changed) => entries::plan_of(&changed.collect(), alive, reach, &self.entries),
            None => entries::plan(alive, reach, &self.entries),
        }
    }

    /// An entry was added.
    pub(super) fn added(&mut self, link: u32, addr: Ipv6Addr) {
        self.entries.insert(ProxyEntry::ours(link, addr));
        self.touch(addr);
    }

    /// An entry was removed.
    pub(super) fn removed(&mut self, link: u32, addr: Ipv6Addr) {
        self.entries.remove((link, addr));
        self.touch(addr);
    }

    fn touch(&mut self, addr: Ipv6Addr) {
        if let Touched::Only(touched) = &mut self.touched {
            touched.insert(addr);
        }
    }

    /// A change has failed: all are compared after the next look.
    pub(super) fn has_failed(&mut self) {
        self.failed = true;
    }

    /// Brings the addresses that the kernel answers for up to date: those with an entry on each uplink of theirs. Returns whether they
    /// have changed.
    pub(super) fn note_answered(&mut self, answered: &mut Tracked<Ipv6Addr>, reach: &Reach) -> bool {
        match std::mem::replace(&mut self.touched, Touched::Only(BTreeSet::new())) {
            Touched::All if self.serve => answered.replace(self.entries.on_all(reach)),
            Touched::All => answered.replace([]),
            Touched::Only(touched) => {
                let is_answered = |addr| self.serve && self.entries.are_on_all(addr, reach);
                touched.into_iter().filter(|addr| answered.set(*addr, is_answered(*addr))).count() > 0
            }
        }
    }
}

impl Running {
    /// Where the claims are answered for.
    pub(super) fn follow_uplinks(&mut self) {
        let before = self.reach.clone();
        let claims = self.proxy.input.borrow().answered_claims().to_vec();
        self.reach.follow(&claims, &self.proxy.uplinks.borrow(), self.kept.entries());
        if self.reach != before {
            self.kept.reach_changed();
        }
    }

    /// Looks whether the kernel answers on all uplinks: it does not while it is not set up for that, or where its answers, from an address
    /// of the uplink, may be dropped.
    pub(super) fn look_at_settings(&mut self) {
        let is_on = |name: &str| {
            let path = format!("net/ipv6/conf/{name}/proxy_ndp");
            self.proxy.kernel.sysctl(&path).is_ok_and(|value| value.as_deref() == Some("1"))
        };
        let uplinks = self.proxy.uplinks.borrow().clone();
        let names = uplinks.iter().map(|uplink| uplink.uplink.interface.as_str());
        let serve = self.proxy.settings.source != Source::Target && names.chain(["all"]).all(is_on);
        self.kept.serve(serve);
    }

    /// Changes the kernel's entries to the addresses in use.
    pub(super) async fn keep_entries(&mut self) {
        let is_known = !self.proxy.input.borrow().claims.is_empty()
            || self.proxy.report.borrow().infrastructure.is_some();
        if !is_known || self.proxy.report.borrow().paused || self.proxy.uplinks.borrow().is_empty() {
            self.known.mark_unchanged();
            return;
        }
        let plan = match &self.known.borrow_and_update().alive {
            Some(alive) => self.kept.plan(alive, &self.reach),
            None => return,
        };
        for (link, addr) in plan.add {
            match self.proxy.kernel.add_proxy_entry(link, addr).await {
                Ok(()) => self.kept.added(link, addr),
                Err(error) => self.failed(&error),
            }
        }
        for (link, addr) in plan.remove {
            match self.proxy.kernel.remove_proxy_entry(link, addr).await {
                Ok(()) => self.kept.removed(link, addr),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &crate::kernel::KernelError) {
        self.kept.has_failed();
        self.warn(error);
    }

    /// The number of entries on each of these uplinks.
    pub(super) fn entries_on(&self, uplinks: &[LocalUplink]) -> BTreeMap<u32, usize> {
        uplinks.iter().map(|uplink| (uplink.link, self.kept.entries().count(uplink.link))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n)
    }

    /// Compares, carries the plan out, and brings the answered addresses up to date. Returns the plan.
    fn keep(kept: &mut Kept, alive: &Tracked<Ipv6Addr>, answered: &mut Tracked<Ipv6Addr>) -> Plan {
        let reach = Reach::of("2001:db8::c000:0/112", &[2]);
        let plan = kept.plan(alive, &reach);
        plan.add.iter().for_each(|(link, addr)| kept.added(*link, *addr));
        plan.remove.iter().for_each(|(link, addr)| kept.removed(*link, *addr));
        kept.note_answered(answered, &reach);
        plan
    }

    #[test]
    fn a_change_of_one_address_compares_no_other() {
        let (mut kept, mut answered) = (Kept::default(), Tracked::default());
        let mut alive: Tracked<_> = (1..=100).map(addr).collect();
        kept.serve(true);
        assert_eq!(keep(&mut kept, &alive, &mut answered).add.len(), 100);
        assert_eq!(answered, alive);
        // Another process has removed an entry unnoticed: a comparison of all would find that.
        kept.entries.remove((2, addr(7)));
        alive.set(addr(200), true);
        alive.set(addr(1), false);
        let plan = keep(&mut kept, &alive, &mut answered);
        assert_eq!(plan, Plan { add: vec![(2, addr(200))], remove: vec![(2, addr(1))] });
        assert_eq!(answered, alive);
        assert_eq!(keep(&mut kept, &alive, &mut answered), Plan::default());
    }

    #[test]
    fn all_are_compared_once_others_have_changed_entries_or_a_change_has_failed() {
        let (mut kept, mut answered) = (Kept::default(), Tracked::default());
        let alive: Tracked<_> = [addr(1), addr(2)].into_iter().collect();
        kept.serve(true);
        keep(&mut kept, &alive, &mut answered);
        kept.read(&[ProxyEntry::ours(2, addr(2))]);
        assert_eq!(keep(&mut kept, &alive, &mut answered).add, [(2, addr(1))]);
        let all = [ProxyEntry::ours(2, addr(1)), ProxyEntry::ours(2, addr(2))];
        kept.read(&all);
        assert_eq!(kept.compared, Some(alive.revision()), "no news");
        kept.has_failed();
        kept.read(&all);
        assert_eq!(kept.compared, None);
        keep(&mut kept, &alive, &mut answered);
        assert_eq!(answered, alive);
        kept.serve(false);
        keep(&mut kept, &alive, &mut answered);
        assert!(answered.is_empty(), "the kernel is not set up for it");
        kept.serve(true);
        keep(&mut kept, &alive, &mut answered);
        assert_eq!(answered, alive);
    }
}
