//! What is looked at now and then, and what operators see.

use std::{collections::BTreeMap, net::Ipv6Addr};

use tokio::time::Instant;

use super::{Running, findings, lasting_faults::Compared, view::Standing};
use crate::{kernel::KernelError, ndp_faults::checks};

impl Running {
    /// Looks for what others do to the answers.
    pub(super) fn look_at_faults(&mut self) -> Result<(), KernelError> {
        // Before it is set up, nothing of the host is right yet.
        let uplinks: BTreeMap<u32, String> = match self.prefixes.are_known() {
            true => {
                self.proxy.uplinks.borrow().iter().map(|it| (it.link, it.uplink.interface.clone())).collect()
            }
            false => BTreeMap::new(),
        };
        let known = self.known.borrow();
        let compared = Compared {
            alive: known.alive.as_ref().map_or(0, |alive| alive.revision()),
            entries: self.kept.entries().revision(),
            reach: self.reach.clone(),
            uplinks,
        };
        let missing = |Compared { reach, uplinks, .. }: &Compared| {
            let in_use = known.alive.iter().flat_map(|alive| alive.iter()).collect();
            let entries: Vec<_> = self.kept.entries().iter().copied().collect();
            checks::missing(&in_use, uplinks, &entries, |link, addr: Ipv6Addr| reach.has(link, addr))
        };
        self.faults.look(self.proxy.kernel.as_ref(), compared, missing, Instant::now())
    }

    /// Where the host stands, for operators.
    pub(super) fn standing(&self) -> Standing {
        let given = self.given.borrow();
        let uplinks = self.proxy.uplinks.borrow().clone();
        let known = self.known.borrow();
        let trouble = known.trouble.as_ref().map(|it| findings::trouble_text(it, &self.facts));
        Standing {
            settings: self.proxy.settings,
            withdrawn: self.proxy.input.borrow().withdrawn,
            place: given.place.clone(),
            kernel: given.kernel.clone(),
            entries: self.entries_on(&uplinks),
            uplinks,
            trouble,
            others: known.others.clone(),
        }
    }
}
