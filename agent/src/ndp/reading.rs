//! What the task makes of what it follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use sextant_ndp::proxy::Source;
use sextant_proto::Prefix;
use tokio::time::Instant;

use super::{Running, entries, findings, view::Standing};
use crate::{kernel::KernelError, uplinks::LocalUplink};

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
        let alive = self.known.borrow().alive.clone().unwrap_or_default();
        self.faults.look(
            self.proxy.kernel.as_ref(),
            &uplinks,
            &alive,
            &self.entries,
            &self.reach,
            Instant::now(),
        )
    }

    /// Where the host stands, for operators.
    pub(super) fn standing(&self) -> Standing {
        let place = self.given.borrow().place.clone();
        let entries = self.entries.clone();
        let uplinks = self.proxy.uplinks.borrow().clone();
        let known = self.known.borrow();
        let trouble = known.trouble.as_ref().zip(self.facts.as_ref());
        let trouble = trouble.map(|(trouble, facts)| findings::trouble_text(trouble, facts));
        let others = known.others.clone();
        Standing { settings: self.proxy.settings, place, entries, uplinks, trouble, others }
    }

    /// The addresses of the engine's containers.
    pub(super) fn expected(&self, prefixes: &[Prefix]) -> Arc<BTreeSet<Ipv6Addr>> {
        let live = self.proxy.containers.as_ref().and_then(|known| known.borrow().clone());
        let running = live.iter().flat_map(|live| live.containers.values());
        let addresses = running.flat_map(|it| &it.addresses).map(|(_, addr)| *addr);
        Arc::new(addresses.filter(|addr| prefixes.iter().any(|prefix| prefix.contains(*addr))).collect())
    }

    /// The addresses that the kernel answers for on all uplinks of theirs; none while it is not set up for that, or where its answers, from an
    /// address of the uplink, may be dropped.
    pub(super) fn answered_by_kernel(&self, uplinks: &[LocalUplink]) -> Arc<BTreeSet<Ipv6Addr>> {
        if self.proxy.settings.source == Source::Target {
            return Arc::default();
        }
        let is_on = |name: &str| {
            let path = format!("net/ipv6/conf/{name}/proxy_ndp");
            self.proxy.kernel.sysctl(&path).is_ok_and(|value| value.as_deref() == Some("1"))
        };
        let names = uplinks.iter().map(|uplink| uplink.uplink.interface.as_str());
        let all_on = names.chain(["all"]).all(is_on);
        Arc::new(if all_on { entries::on_all(&self.entries, &self.reach) } else { BTreeSet::new() })
    }
}
