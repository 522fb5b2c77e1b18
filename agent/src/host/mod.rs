//! The host's bridge, its address, and the sysctls for forwarding (DESIGN I7).
//!
//! Each change is first recorded in the ledger, so that it can be undone: by `sextant-agent cleanup`, and by a start with
//! other settings. [`Wanted`] decides which changes the settings need, [`undo`] which ones are undone.

mod advertised;
pub mod apply;
mod bridge;
mod containers;
mod drift;
pub mod earlier;
mod elsewhere;
mod ensure;
pub mod exclusive;
pub mod findings;
mod found;
pub mod ground;
mod interfaces;
mod link_layer;
pub(crate) mod link_local;
mod mtu;
mod neighbours;
pub mod privilege;
mod proxying;
mod reconfigure;
mod renamed;
pub mod roles;
mod setup;
mod sysctls;
pub mod undo;
pub mod unnamed;
mod wanted;

use std::{collections::BTreeMap, sync::Arc};

use sextant_proto::Claim;
use tokio::time::Instant;

use advertised::Advertised;
use bridge::Absence;
use drift::Drift;
use found::FoundProblems;
use mtu::Mtu;
pub(crate) use mtu::mtu_of_uplinks;
pub use setup::Setup;
pub(crate) use setup::no_claim;
use setup::{Awaited, SetupError};
pub(crate) use sysctls::{FORWARDING, argument as sysctl_argument};
pub use wanted::Wanted;

use crate::{
    damping::Change,
    kernel::{Kernel, Route, RouteKey},
    problems::Finding,
    settings::{HostSettings, Settings},
    state::{BridgeAddress, Ledger, StateDir, StateError, boot_id},
};

/// The owner of the bridge and of the sysctls.
pub struct HostSetup {
    kernel: Arc<dyn Kernel>,
    state: Arc<StateDir>,
    settings: HostSettings,
    /// Whether the host is set up with the bridge only.
    needed: bool,
    /// Whether to create the bridge.
    create: bool,
    ledger: Ledger,
    /// Addresses that were recorded before this process, and that no claim of the state directory has. Until a controller has answered for
    /// this node's claims, they stay: the directory may be damaged, and the prefix may be in use (DESIGN I5).
    unclaimed: Vec<BridgeAddress>,
    /// The host is set up for these claims, and links have not changed since.
    set_up_for: Option<Vec<Claim>>,
    /// State without kernel events is to be checked: at the start, and with each resync.
    check_due: bool,
    /// The setup is to be checked.
    changed: bool,
    found: FoundProblems,
    absence: Absence,
    drift: Drift,
    advertised: Advertised,
    mtu: Mtu,
    link_locals: link_local::Missing,
    link_locals_checked: Option<Instant>,
    /// The container engine does not answer: it may be about to start, and to change its bridge.
    engine_away: bool,
    /// The sysctls that the last check looked at, with the values that it left.
    watched: BTreeMap<String, Option<String>>,
    /// The indices of the links by their names, as of the last check.
    links: BTreeMap<String, u32>,
    boot_id: String,
}

impl HostSetup {
    /// The setup of this host, which continues from the recorded changes.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        state: Arc<StateDir>,
        settings: &Settings,
    ) -> Result<Self, StateError> {
        let (ledger, claims) = (state.ledger()?, state.claims()?);
        Ok(Self {
            unclaimed: unclaimed(&ledger, &claims),
            kernel,
            state,
            create: settings.bridge.create,
            needed: settings.needs_bridge(),
            settings: settings.host(),
            ledger,
            set_up_for: None,
            check_due: true,
            changed: false,
            found: FoundProblems::default(),
            absence: Absence::default(),
            drift: Drift::default(),
            advertised: Advertised::default(),
            mtu: Mtu::default(),
            link_locals: link_local::Missing::default(),
            link_locals_checked: None,
            engine_away: false,
            watched: BTreeMap::new(),
            links: BTreeMap::new(),
            boot_id: boot_id(),
        })
    }

    /// Makes the next [`ensure`](Self::ensure) check state without kernel events: sysctls, the state directory, and rules.
    pub fn request_check(&mut self) {
        self.check_due = true;
    }

    /// Makes the next check read the routes by router advertisement again: one has changed, or events may have been lost.
    pub fn advertised_changed(&mut self) {
        self.advertised.forget();
    }

    /// The routes by router advertisement, which someone else has just read.
    pub fn set_advertised(&mut self, routes: Vec<Route>) {
        self.advertised.set(routes);
    }

    /// Sets the names of the uplinks, which may change where no setting names them.
    pub fn set_uplinks(&mut self, names: &[String]) {
        if self.settings.uplinks != names {
            names.clone_into(&mut self.settings.uplinks);
            self.set_up_for = None;
        }
    }

    /// A controller has answered for this node's claims.
    pub fn claims_are_known(&mut self) {
        if !std::mem::take(&mut self.unclaimed).is_empty() {
            self.set_up_for = None;
        }
    }

    /// Whether the container engine, which is watched, does not answer.
    pub fn set_engine_away(&mut self, away: bool) {
        self.engine_away = away;
    }

    /// Sets the MTU of the default routes over the uplinks, if they have one of their own.
    pub fn set_route_mtu(&mut self, mtu: Option<u32>) {
        if std::mem::replace(&mut self.mtu.of_routes, mtu) != mtu {
            self.set_up_for = None;
        }
    }

    /// The size of the largest packet that all uplinks carry, as of the last check.
    pub fn path_mtu(&self) -> Option<u32> {
        self.mtu.of_path
    }

    /// Makes the next [`ensure`](Self::ensure) check the setup if something has changed without an event: a sysctl differs
    /// from the value that the last check left, or a time has passed. Returns whether it does.
    pub fn look(&mut self) -> bool {
        let differs = |(path, value): (&String, &Option<String>)| {
            self.kernel.sysctl(path).is_ok_and(|now| now != *value)
        };
        let now = Instant::now();
        let due = self.absence.is_over(self.create, now)
            || self.drift.is_due(now)
            || self.link_locals.is_due(self.link_locals_checked, now);
        let changed = due || self.watched.iter().any(differs);
        self.changed |= changed;
        changed
    }

    /// Another process has deleted a route of the agent, which restores it.
    pub fn route_deleted(&mut self, key: &RouteKey) {
        let what = "routes of sextant-agent";
        let news = !self.drift.reports(what);
        let found = format!("{} deleted", key.destination);
        let log = self.drift.restored(what, &found, "present", Change::Protecting, Instant::now());
        self.changed |= news || log.is_some();
    }

    /// When a change of the host that is held back is due.
    pub fn due(&self) -> Option<Instant> {
        self.drift.due()
    }

    /// The problems besides the one of [`Setup::Waiting`].
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.found.all()
    }

    /// Records a change in the ledger, before it is made on the host.
    fn record(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), StateError> {
        let mut ledger = self.ledger.clone();
        change(&mut ledger);
        if !self.links.is_empty() {
            ledger.know(&self.boot_id, &self.links);
        }
        if ledger != self.ledger {
            self.state.keep_ledger(&ledger)?;
            self.ledger = ledger;
        }
        Ok(())
    }
}

/// The recorded addresses of the bridge that are in the container prefix of no claim.
fn unclaimed(ledger: &Ledger, claims: &[Claim]) -> Vec<BridgeAddress> {
    let in_claim =
        |it: &&BridgeAddress| claims.iter().any(|claim| claim.container_prefix().contains(it.addr));
    let global = ledger.addresses.iter().filter(|it| !it.addr.is_unicast_link_local());
    global.filter(|it| !in_claim(it)).cloned().collect()
}
