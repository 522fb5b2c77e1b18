//! The kernel's links and routes as they were last read, and which of them must be read again.

use std::sync::Arc;

use tokio::time::Instant;

use super::outcome::Outcome;
use crate::{
    kernel::{Address, Kernel, KernelError, Link, Route, RouteProtocol, Scope},
    log_limiter::{Line, LogLimiter},
    problems::Finding,
    routes::{Actual, Desired, ForeignReader, OursReader},
    settings::Settings,
    uplinks::{self, LocalUplink},
};

/// State that must be read from the kernel before the next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stale {
    links: bool,
    ours: bool,
    foreign: bool,
}

impl Stale {
    const ALL: Stale = Stale { links: true, ours: true, foreign: true };
    const NOTHING: Stale = Stale { links: false, ours: false, foreign: false };
}

/// What the kernel last said.
pub(super) struct KernelState {
    kernel: Arc<dyn Kernel>,
    settings: Arc<Settings>,
    stale: Stale,
    actual: Actual,
    uplinks: Vec<LocalUplink>,
    uplink_findings: Vec<Finding>,
    log: LogLimiter,
}

impl KernelState {
    /// Nothing is known yet.
    pub(super) fn unread(kernel: Arc<dyn Kernel>, settings: Arc<Settings>) -> Self {
        Self {
            kernel,
            settings,
            stale: Stale::ALL,
            actual: Actual::default(),
            uplinks: Vec::new(),
            uplink_findings: Vec::new(),
            log: LogLimiter::default(),
        }
    }

    /// The state of the same kernel, unread.
    pub(super) fn anew(&self) -> Self {
        Self::unread(self.kernel.clone(), self.settings.clone())
    }

    pub(super) fn actual(&self) -> &Actual {
        &self.actual
    }

    pub(super) fn into_actual(self) -> Actual {
        self.actual
    }

    pub(super) fn uplinks(&self) -> &[LocalUplink] {
        &self.uplinks
    }

    /// The problems of the uplinks.
    pub(super) fn uplink_findings(&self) -> &[Finding] {
        &self.uplink_findings
    }

    /// Whether nothing must be read again.
    pub(super) fn is_current(&self) -> bool {
        self.stale == Stale::NOTHING
    }

    /// Whether the kernel drops routes of ours with the link.
    pub(super) fn carries_routes(&self, link: &Link) -> bool {
        let uplink = self.settings.uplinks.contains(&link.name);
        uplink || link.name == "lo" || self.uplinks.iter().any(|local| local.link == link.index)
    }

    /// Whether the event of this route means that another process has changed or deleted one of ours, or one that looks like it.
    pub(super) fn is_undone_by(&self, route: &Route, gone: bool) -> bool {
        let ours = route.protocol == RouteProtocol::OURS;
        ours || !gone && self.actual.ours.contains_key(&route.key)
    }
}

/// Reading.
impl KernelState {
    /// Links and addresses, if they may have changed.
    pub(super) async fn read_links(&mut self) -> Result<Option<(Vec<Link>, Vec<Address>)>, KernelError> {
        if !self.stale.links {
            return Ok(None);
        }
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        self.stale.links = false;
        self.uplinks = uplinks::local_uplinks(&self.settings.uplinks, &links, &addresses);
        self.uplink_findings = uplinks::findings(&self.settings.uplinks, &links, &addresses);
        Ok(Some((links, addresses)))
    }

    /// The routes that may have changed.
    pub(super) async fn read_routes(&mut self) -> Result<(), KernelError> {
        if self.stale.foreign {
            let table = Scope::Table(self.settings.routes.table);
            let mut reader = ForeignReader::default();
            self.kernel.read_routes(table, &mut reader).await?;
            self.actual.foreign = reader.found;
            self.stale.foreign = false;
        }
        if self.stale.ours {
            let mut reader = OursReader::beside(self.actual.ours.clone());
            self.kernel.read_routes(Scope::Ours, &mut reader).await?;
            self.actual.ours = reader.finish();
            self.stale.ours = false;
        }
        Ok(())
    }
}

/// What makes it stale, or changes it.
impl KernelState {
    /// Events of the kernel were lost.
    pub(super) fn events_lost(&mut self) {
        if let Some(withheld) = self.log.admit(Line::Overrun, Instant::now()) {
            tracing::info!(withheld, "events of the kernel were lost; reading everything anew");
        }
        self.all_is_stale();
    }

    /// Nothing that is known counts any more.
    pub(super) fn all_is_stale(&mut self) {
        self.stale = Stale::ALL;
    }

    /// A resync: reads our routes anew, and those of others with `foreign`.
    pub(super) fn routes_are_stale(&mut self, foreign: bool) {
        self.stale.ours = true;
        self.stale.foreign |= foreign;
    }

    /// The addresses have changed, or the links.
    pub(super) fn links_are_stale(&mut self) {
        self.stale.links = true;
    }

    /// A link has changed. The kernel drops the routes of a link that goes.
    pub(super) fn link_changed(&mut self) {
        self.stale.links = true;
        self.stale.ours = true;
    }

    /// A route has changed or is gone. Its place is that of a route that is `wanted`, or not.
    pub(super) fn route_changed(&mut self, route: &Route, gone: bool, wanted: bool) {
        let ours = route.protocol == RouteProtocol::OURS;
        // A replace removes the previous route without an event, whichever process made it.
        self.stale.foreign |= !gone && self.actual.is_anothers(route);
        if !ours && gone {
            self.actual.lost(route);
        } else if !ours {
            self.actual.saw(route);
        }
        self.stale.ours |= ours || wanted;
    }

    /// Lets what is and what should be share their memory where they are the same.
    pub(super) fn share_with(&mut self, desired: &Desired) {
        self.actual.share_with(desired);
    }

    /// The kernel has acknowledged changes, or refused them.
    pub(super) fn apply_outcome(&mut self, outcome: Outcome) {
        if outcome.contradicts_known_routes() {
            self.routes_are_stale(true);
        }
        self.actual.acknowledged(outcome.done);
    }
}
