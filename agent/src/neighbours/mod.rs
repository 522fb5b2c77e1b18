//! The kernel's IPv6 neighbour table: whether it is full or too small, and which links fill it.
//!
//! All network namespaces of a machine share the table, and its limit. When it is full, no host or container of the machine
//! reaches an address that it has no entry for. Entries of addresses that do not answer cannot be dropped until their
//! resolution has failed: packets to unused addresses can fill it.
//!
//! One task, [`NeighbourWatch::run`], reads the size of the table every two seconds. It counts the entries of each link only
//! while many addresses do not answer. It also looks for entries of peers that the kernel never checks. It changes nothing:
//! [`crate::host`] limits the neighbours of bridges. [`pressure`], [`limits`] and [`permanent`] decide what is a problem.

mod findings;
pub(crate) mod limits;
mod meters;
mod permanent;
mod pressure;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use sextant_daemon::OncePerMinute;
use sextant_proto::{NodeName, Peer, Prefix};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::Input,
    kernel::{Kernel, KernelError, NeighbourTable, NextHop},
    problems::{Component, Finding, Problems},
    uplinks::{LocalUplink, direct_next_hops},
};

pub use meters::Meters;
use permanent::PermanentHop;
use pressure::{Pressure, Unanswered};

/// How often the size of the table is read.
const LOOK: Duration = Duration::from_secs(2);
/// How often the limits are compared with the number of neighbours that the host may need, and the entries of peers are read.
const COMPARED: Duration = Duration::from_secs(10);
/// Three solicitations, one in a second.
const DEFAULT_FAILS_AFTER_MS: u64 = 3000;
/// The time between the two readings of [`problems_now`].
const BETWEEN: Duration = Duration::from_millis(500);

/// Watches the neighbour table.
pub struct NeighbourWatch {
    kernel: Arc<dyn Kernel>,
    uplinks: watch::Receiver<Vec<LocalUplink>>,
    input: watch::Receiver<Input>,
    problems: Problems,
    meters: Meters,
    pressure: Pressure,
    too_low: Option<Finding>,
    permanent: Option<Finding>,
    compared: Option<Instant>,
    lines: OncePerMinute,
}

impl NeighbourWatch {
    /// For a host that reaches the peers of `input` over `uplinks`.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        uplinks: watch::Receiver<Vec<LocalUplink>>,
        input: watch::Receiver<Input>,
        problems: Problems,
    ) -> Self {
        let (meters, pressure, lines) = (Meters::default(), Pressure::default(), OncePerMinute::default());
        let (too_low, permanent, compared) = (None, None, None);
        Self { kernel, uplinks, input, problems, meters, pressure, too_low, permanent, compared, lines }
    }

    /// What it counts.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// Runs forever.
    ///
    /// # Errors
    /// None: errors are logged, and tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        loop {
            if let Err(error) = self.look().await
                && let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now())
            {
                tracing::warn!(%error, suppressed, "cannot read neighbours from the kernel; trying again");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&mut self) -> Result<(), KernelError> {
        let is_due = self.compared.is_none_or(|at| at.elapsed() >= COMPARED);
        if is_due {
            self.compared = Some(Instant::now());
            self.permanent = permanent::finding(&self.permanent_hops().await?);
        }
        let mut findings: Vec<_> = self.permanent.clone().into_iter().collect();
        if let Some(table) = self.kernel.neighbour_table()? {
            let many = self.pressure.take(table, Instant::now());
            let unanswered = if many { unanswered(self.kernel.as_ref()).await? } else { Vec::new() };
            self.meters.stand(&table, unanswered.iter().map(|it| it.count).sum());
            self.pressure.count(unanswered, Instant::now());
            if is_due {
                self.too_low = self.compare(&table).await?;
            }
            findings.extend(self.pressure.findings(Instant::now()).into_iter().chain(self.too_low.clone()));
        }
        self.problems.report(Component::Neighbours, findings);
        Ok(())
    }

    /// Compares the limits with the number of peers and containers.
    async fn compare(&self, table: &NeighbourTable) -> Result<Option<Finding>, KernelError> {
        let containers = self.kernel.links().await?.iter().filter(|link| link.controller.is_some()).count();
        let limits = (table.soft_limit.into(), table.limit.into());
        let low = limits::too_low(limits, self.next_hops().len(), containers);
        Ok(low.map(|low| Finding::new("neighbour-limits-low", low.text, low.fix)))
    }

    /// The on-link next hops of the peers, each with the peer and the uplink's name.
    fn next_hops(&self) -> BTreeMap<NextHop, (NodeName, String)> {
        let (uplinks, view) = (self.uplinks.borrow(), self.input.borrow().view.clone());
        let of = |peer: &Peer| {
            let named = |(local, hop): (&LocalUplink, NextHop)| {
                (hop, (peer.name.clone(), local.uplink.interface.clone()))
            };
            direct_next_hops(&uplinks, peer).map(named).collect::<Vec<_>>()
        };
        view.peers().flat_map(of).collect()
    }

    /// Those of them with an entry that the kernel never checks.
    async fn permanent_hops(&self) -> Result<Vec<PermanentHop>, KernelError> {
        let links: BTreeSet<u32> = self.uplinks.borrow().iter().map(|uplink| uplink.link).collect();
        let mut permanent = Vec::new();
        for link in links {
            let entries = self.kernel.neighbours(link).await?;
            permanent.extend(entries.into_iter().filter(permanent::is_permanent));
        }
        if permanent.is_empty() {
            return Ok(Vec::new());
        }
        let hops = self.next_hops();
        let of = |(hop, (peer, uplink)): (NextHop, (NodeName, String))| {
            let entry =
                permanent.iter().find(|it| it.link == hop.link && hop.gateway == Some(it.addr)).copied()?;
            Some(PermanentHop { peer, uplink, entry })
        };
        Ok(hops.into_iter().filter_map(of).collect())
    }
}

/// The problems of the table at this time, by two readings.
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) async fn problems_now(kernel: &dyn Kernel) -> Result<Vec<Finding>, KernelError> {
    let mut pressure = Pressure::default();
    for delay in [Duration::ZERO, BETWEEN] {
        tokio::time::sleep(delay).await;
        let Some(table) = kernel.neighbour_table()? else { return Ok(Vec::new()) };
        if !pressure::may_be_crowded(&table) {
            return Ok(Vec::new());
        }
        let _by_time = pressure.take(table, Instant::now());
        pressure.count(unanswered(kernel).await?, Instant::now());
    }
    Ok(pressure.findings_with_rules(Instant::now()))
}

/// The links with addresses that are being resolved without an answer.
async fn unanswered(kernel: &dyn Kernel) -> Result<Vec<Unanswered>, KernelError> {
    let mut counts = BTreeMap::new();
    for neighbour in kernel.all_neighbours().await?.iter().filter(|it| it.is_unanswered()) {
        counts.entry(neighbour.link).or_insert((0, neighbour.addr)).0 += 1;
    }
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let (links, addresses) = (kernel.links().await?, kernel.addresses().await?);
    let named = links.into_iter().filter_map(|link| {
        let (count, example) = *counts.get(&link.index)?;
        let here = addresses.iter().filter(|address| address.link == link.index);
        let on_link = here.filter_map(|address| Prefix::containing(address.addr, address.len));
        let prefix = on_link.filter(|prefix| prefix.contains(example)).max_by_key(|prefix| prefix.len());
        let fails_after_ms = fails_after_ms(kernel, &link.name).unwrap_or(DEFAULT_FAILS_AFTER_MS);
        Some(Unanswered { link: link.name, count, example, prefix, fails_after_ms })
    });
    Ok(named.collect())
}

/// How long the kernel resolves an address on the link (RFC 4861 §7.2.2).
fn fails_after_ms(kernel: &dyn Kernel, link: &str) -> Option<u64> {
    let value = |name: &str| {
        let value = kernel.sysctl(&format!("net/ipv6/neigh/{link}/{name}")).ok()??;
        value.parse::<u64>().ok()
    };
    Some(value("mcast_solicit")? * value("retrans_time_ms")?)
}

#[cfg(test)]
mod tests;
