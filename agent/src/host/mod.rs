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
pub mod exclusive;
pub mod findings;
mod found;
pub mod ground;
mod interfaces;
pub(crate) mod link_local;
mod mtu;
mod neighbours;
pub mod privilege;
mod reconfigure;
pub mod roles;
mod sysctls;
pub mod undo;
pub mod unnamed;
mod wanted;

use std::{collections::BTreeMap, sync::Arc};

use sextant_proto::{Claim, Prefix};
use tokio::time::Instant;

use advertised::Advertised;
use bridge::Absence;
use drift::Drift;
use found::FoundProblems;
use mtu::Mtu;
pub(crate) use mtu::mtu_of_uplinks;
pub(crate) use sysctls::FORWARDING;
pub use wanted::Wanted;

use containers::ContainerLinks;

use crate::{
    damping::Change,
    kernel::{Address, Kernel, KernelError, Link, RouteKey},
    problems::Finding,
    settings::{HostSettings, Role, Settings},
    state::{Ledger, StateDir, StateError},
};

/// The state of the host's setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// The host forwards for its containers.
    Ready,
    /// It does, except for those with addresses of these prefixes, each for its reason; tried again.
    Without(Vec<(Prefix, Finding)>),
    /// The host is not set up, for this reason; tried again.
    Waiting(Finding),
}

/// An error that prevents the setup.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("waiting for bridge \"{}\"; give {} {}", .0.bridge, .0.engine(), .0.prefixes())]
    NoBridge(Awaited),
    #[error("{}", .0.saw)]
    NoIpv6(Finding),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl SetupError {
    /// Whether the exchange with the kernel failed.
    fn is_broken(&self) -> bool {
        matches!(self, Self::Kernel(KernelError::Broken(_)))
    }

    fn finding(&self) -> Finding {
        let (what, fix) = match self {
            Self::NoBridge(awaited) => {
                return Finding::unready("bridge-missing", self.to_string(), awaited.fix());
            }
            Self::NoIpv6(finding) => return finding.clone(),
            Self::State(_) => ("state-directory", "check the disk, and that root may write to --state-dir"),
            Self::Kernel(_) => ("host-setup-refused", "see sextant-agent's log on the host"),
        };
        Finding::unready(what, self.to_string(), fix)
    }
}

impl SetupError {
    /// The problem of one claim, while another one works.
    fn finding_of(&self, claim: &Claim) -> Finding {
        let finding = self.finding();
        let saw =
            format!("host prefix {} of pool {} is not used: {}", claim.prefix, claim.pool.name, finding.saw);
        Finding { saw, unready: false, ..finding }.about(claim.prefix.to_string())
    }
}

/// A bridge that the container engine is to make.
#[derive(Debug)]
struct Awaited {
    bridge: String,
    /// The container prefixes of the claims.
    wanted: Vec<Prefix>,
}

impl Awaited {
    fn is_dockers(&self) -> bool {
        self.bridge == "docker0"
    }

    fn engine(&self) -> &'static str {
        if self.is_dockers() { "Docker" } else { "the container engine" }
    }

    fn prefixes(&self) -> String {
        self.wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn fix(&self) -> String {
        let create = "create the bridge, or let the agent create it ([bridge] create = true in agent.toml, or --bridge-create)";
        match self.wanted.first().filter(|_| self.is_dockers()) {
            Some(prefix) => format!(
                "set \"ipv6\": true and \"fixed-cidr-v6\": \"{prefix}\" in /etc/docker/daemon.json, and start Docker again \
                 (`systemctl restart docker`); or let the agent keep a network in Docker ([docker] mode = \"network\" in agent.toml); \
                 or {create}"
            ),
            None => format!("start the container engine, {create}"),
        }
    }
}

/// The host holds no prefix.
pub(crate) fn no_claim() -> Finding {
    Finding::unready(
        "no-claim",
        "no host prefix is claimed yet",
        "see sextant-agent's log on the host: no controller is reachable, or the controller refuses the claim",
    )
}

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
        let ledger = state.ledger()?;
        Ok(Self {
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

    /// Sets the names of the uplinks, which may change where no setting names them.
    pub fn set_uplinks(&mut self, names: &[String]) {
        if self.settings.uplinks != names {
            names.clone_into(&mut self.settings.uplinks);
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

    /// Sets the host up for `claims` and the settings, in the order of DESIGN I7: bridge, addresses, forwarding; then undoes
    /// changes for earlier settings. `links` is the present state, if it may have changed since the last call. Addresses of
    /// claims that ended are removed. A router has no claim, and needs only forwarding.
    ///
    /// # Errors
    /// If the exchange with the kernel fails. Other errors are [`Setup::Waiting`].
    pub async fn ensure(
        &mut self,
        claims: &[Claim],
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        let check_due = std::mem::take(&mut self.check_due);
        let changed = std::mem::take(&mut self.changed)
            || check_due
            || self.drift.due().is_some_and(|due| due <= Instant::now())
            || links.is_some()
            || self.set_up_for.as_deref() != Some(claims);
        let mut setup = self.state_of(claims);
        if changed {
            self.set_up_for = None;
            match self.try_ensure(claims, links).await {
                Ok(without) if without.is_empty() => self.set_up_for = Some(claims.to_vec()),
                Ok(without) => setup = Setup::Without(without),
                Err(SetupError::Kernel(error @ KernelError::Broken(_))) => return Err(error),
                Err(error) => setup = Setup::Waiting(error.finding()),
            }
            self.found.drift = self.drift.findings(Instant::now());
        }
        if check_due {
            self.check_state();
        }
        if changed {
            self.check_settings(claims).await?;
        }
        Ok(setup)
    }

    /// The sysctls are kept even while the bridge is missing: some container engines need forwarding to start.
    async fn try_ensure(
        &mut self,
        claims: &[Claim],
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Vec<(Prefix, Finding)>, SetupError> {
        let (links, addresses) = match links {
            Some(known) => {
                // The kernel may say nothing of the routes of a link that goes.
                self.advertised.forget();
                known.clone()
            }
            None => (self.kernel.links().await?, self.kernel.addresses().await?),
        };
        self.forget_other_links(&links);
        self.drift.check();
        self.read_path_mtu(&links)?;
        self.check_link_locals(claims, &links, &addresses);
        let address = |claim: &Claim| drift::address_of(claim.container_prefix(), &self.settings.bridge);
        self.drift.retain_addresses(&claims.iter().map(address).collect::<Vec<_>>());
        self.undo_before_setup(claims).await?;
        let bridge = match claims {
            [] => Ok(Vec::new()),
            claims => self.ensure_bridge_of(claims, &links, &addresses).await,
        };
        if bridge.as_ref().is_err_and(SetupError::is_broken) {
            return bridge;
        }
        if !claims.is_empty() || self.settings.role == Role::Router {
            let links = self.kernel.links().await?;
            let advertised = self.advertised.read(&*self.kernel).await?.to_vec();
            self.ensure_sysctls(&links, &addresses, &advertised)?;
            let inside = ContainerLinks::among(&links, self.own_bridge(), &self.settings.uplinks);
            self.found.learned =
                interfaces::learned_from_containers(&links, &addresses, &advertised, &inside);
        }
        let without = bridge?;
        self.undo_earlier(claims).await?;
        Ok(without)
    }

    /// The bridge with its addresses. Returns the claims that it has none of, with the reasons: one claim's trouble is no other's
    /// (DESIGN I10). An error if it has none at all.
    async fn ensure_bridge_of(
        &mut self,
        claims: &[Claim],
        links: &[Link],
        addresses: &[Address],
    ) -> Result<Vec<(Prefix, Finding)>, SetupError> {
        let Some(bridge) = self.ensure_bridge(links, claims).await? else { return Ok(Vec::new()) };
        self.ensure_mtu(&bridge, links).await?;
        self.ensure_link_local(&bridge, addresses).await?;
        let mut without = Vec::new();
        for claim in claims {
            match self.ensure_claim(&bridge, addresses, claim.container_prefix()).await {
                Ok(()) => {}
                Err(error) if error.is_broken() || without.len() + 1 == claims.len() => return Err(error),
                Err(error) => without.push((claim.prefix, error.finding_of(claim))),
            }
        }
        Ok(without)
    }

    async fn ensure_claim(
        &mut self,
        bridge: &Link,
        addresses: &[Address],
        prefix: Prefix,
    ) -> Result<(), SetupError> {
        self.ensure_address(bridge, addresses, prefix).await?;
        self.ensure_connected(bridge, addresses, prefix).await
    }

    /// A link of the same name with another index has the kernel's defaults. What was watched is looked at anew.
    fn forget_other_links(&mut self, links: &[Link]) {
        self.watched.clear();
        let now: BTreeMap<_, _> = links.iter().map(|link| (link.name.clone(), link.index)).collect();
        let before = &self.links;
        self.drift
            .retain_interfaces(|name| before.get(name).is_some_and(|index| now.get(name) == Some(index)));
        self.links = now;
    }

    fn state_of(&self, claims: &[Claim]) -> Setup {
        match self.settings.role {
            Role::Host if claims.is_empty() => Setup::Waiting(no_claim()),
            Role::Host | Role::Router => Setup::Ready,
        }
    }

    /// Records a change in the ledger, before it is made on the host.
    fn record(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), StateError> {
        let mut ledger = self.ledger.clone();
        change(&mut ledger);
        if ledger != self.ledger {
            self.state.keep_ledger(&ledger)?;
            self.ledger = ledger;
        }
        Ok(())
    }
}
