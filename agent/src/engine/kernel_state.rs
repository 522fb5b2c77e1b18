//! The kernel's links and routes as they were last read, and which of them must be read again.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{
    concern::{Concern, Concerned},
    outcome::Outcome,
    uplink_names::UplinkNames,
};
use crate::{
    cluster::Input,
    kernel::{
        Address, Event, Kernel, KernelError, LOCAL_TABLE, Link, MAIN_TABLE, Route, RouteProtocol,
        RouteReader, Scope,
    },
    log_limiter::{Line, LogLimiter},
    problems::Finding,
    routes::{Actual, Desired, Foreign, ForeignReader, OursReader},
    settings::{OffLink, Settings},
    uplinks::{self, Gateways, LinkRouteReader, LinkRoutes, LocalUplink, Lookup, looked_up_before, lookups},
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
    links: Vec<Link>,
    addresses: Vec<Address>,
    looked_up_before: Vec<Lookup>,
    link_routes: LinkRoutes,
    gateways: Arc<Gateways>,
    names: UplinkNames,
    uplinks: Vec<LocalUplink>,
    uplink_findings: Vec<Finding>,
    concerned: Concerned,
    /// Links of containers have come, which the host's setup has not seen.
    containers: bool,
    log: LogLimiter,
}

impl KernelState {
    /// Nothing is known yet.
    pub(super) fn unread(kernel: Arc<dyn Kernel>, settings: Arc<Settings>) -> Self {
        Self {
            names: UplinkNames::of(&settings),
            kernel,
            stale: Stale::ALL,
            concerned: Concerned::new(settings.uplinks.clone(), settings.bridge.name.clone()),
            containers: false,
            actual: Actual::default(),
            links: Vec::new(),
            addresses: Vec::new(),
            looked_up_before: Vec::new(),
            link_routes: LinkRoutes::default(),
            gateways: Arc::default(),
            uplinks: Vec::new(),
            uplink_findings: Vec::new(),
            settings,
            log: LogLimiter::default(),
        }
    }

    /// The state of the same kernel, unread.
    pub(super) fn anew(&self) -> Self {
        let names = self.names.clone();
        Self { names, ..Self::unread(self.kernel.clone(), self.settings.clone()) }
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

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The tables in which the kernel looks before ours.
    pub(super) fn looked_up_before(&self) -> &[Lookup] {
        &self.looked_up_before
    }

    /// The gateways that other processes' routes lead through.
    pub(super) fn gateways(&self) -> &Arc<Gateways> {
        &self.gateways
    }

    /// Their names, those that do not exist among them.
    pub(super) fn uplink_names(&self) -> &[String] {
        self.names.all()
    }

    /// The problems of the uplinks.
    pub(super) fn uplink_findings(&self) -> &[Finding] {
        &self.uplink_findings
    }

    /// The smallest MTU of the default routes over the uplinks, if one has its own.
    pub(super) fn route_mtu(&self) -> Option<u32> {
        let links: Vec<_> = self.uplinks.iter().map(|uplink| uplink.link).collect();
        self.link_routes.default_mtus(&links).min()
    }

    /// Whether nothing must be read again.
    pub(super) fn is_current(&self) -> bool {
        self.stale == Stale::NOTHING
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
        (self.links, self.addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        (self.stale.links, self.containers) = (false, false);
        self.concerned.read(&self.links, &self.addresses);
        self.uplinks_changed();
        Ok(Some((self.links.clone(), self.addresses.clone())))
    }

    /// The routes that may have changed, and with them the uplinks and their neighbours.
    pub(super) async fn read_routes(&mut self, input: &Input) -> Result<(), KernelError> {
        self.stale.foreign |= self.names.look_towards(&input.controllers);
        if self.stale.foreign {
            self.read_foreign().await?;
            self.stale.foreign = false;
            self.uplinks_changed();
        }
        self.guess_uplinks(input);
        if self.stale.ours {
            let mut reader = OursReader::beside(self.actual.ours.clone());
            self.kernel.read_routes(Scope::Ours, &mut reader).await?;
            self.actual.ours = reader.finish();
            self.stale.ours = false;
        }
        Ok(())
    }

    /// Others' routes, in all tables that the kernel may find a neighbour in.
    async fn read_foreign(&mut self) -> Result<(), KernelError> {
        let (own, rules) = (self.settings.routes.table, self.kernel.rules().await?);
        let lookups = lookups(&rules, own);
        self.looked_up_before = looked_up_before(&rules, own);
        let (mut read, mut others) = (BTreeMap::new(), Foreign::new());
        for Lookup { table, .. } in &lookups {
            let (mut foreign, mut of_links) = (ForeignReader::default(), LinkRouteReader::default());
            let both = &mut Both(&mut foreign, &mut of_links);
            self.kernel.read_routes(Scope::Table(*table), both).await?;
            if self.is_followed(*table) {
                others.append(&mut foreign.found);
            }
            read.insert(*table, of_links);
        }
        if !read.contains_key(&LOCAL_TABLE) && self.is_followed(LOCAL_TABLE) {
            let mut foreign = ForeignReader::default();
            self.kernel.read_routes(Scope::Table(LOCAL_TABLE), &mut foreign).await?;
            others.append(&mut foreign.found);
        }
        self.actual.foreign = others;
        let all = self.settings.routes.off_link == OffLink::Gateway;
        self.gateways = Arc::new(Gateways::of(&lookups, &read, all));
        self.link_routes = LinkRoutes::new(lookups, read, self.names.towards());
        Ok(())
    }

    /// Whether routes of this table may be taken instead of ours, or are those of a container engine that is watched.
    fn is_followed(&self, table: u32) -> bool {
        table == self.settings.routes.table
            || self.settings.docker.is_some() && table == MAIN_TABLE
            || self.looked_up_before.iter().any(|it| it.table == table)
    }

    fn uplinks_changed(&mut self) {
        self.names.clues_changed();
        let (names, links, addresses) = (self.names.all(), &self.links, &self.addresses);
        self.uplinks = uplinks::local_uplinks(names, links, addresses, &self.link_routes);
        self.uplink_findings = uplinks::findings(names, links, addresses, &self.uplinks);
        self.concerned.set_uplinks(names);
    }
}

impl KernelState {
    /// Chooses the uplinks again, if no setting names them and the host or the cluster has changed.
    fn guess_uplinks(&mut self, input: &Input) {
        let (links, routes, bridge) = (&self.links, &self.link_routes, &self.settings.bridge.name);
        if self.names.guess(&self.settings.node, links, routes, bridge, &input.view) {
            self.uplinks_changed();
        }
    }
}

/// Two readers of one dump.
struct Both<'a>(&'a mut ForeignReader, &'a mut LinkRouteReader);

impl RouteReader for Both<'_> {
    fn begin(&mut self) {
        self.0.begin();
        self.1.begin();
    }

    fn take(&mut self, route: Route) {
        // Neither counts ours, which may be a hundred thousand.
        if route.protocol != RouteProtocol::OURS {
            self.1.take(route.clone());
            self.0.take(route);
        }
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

    /// What the event of a link, an address or forwarding concerns.
    pub(super) fn concern_of(&mut self, event: &Event) -> Concern {
        match event {
            Event::LinkChanged(link) => self.concerned.link_changed(link),
            Event::LinkGone(link) => self.concerned.link_gone(link),
            Event::AddressChanged(address) => self.concerned.address_changed(address),
            Event::AddressGone(address) => self.concerned.address_gone(address),
            Event::RouteGone(route) | Event::RouteDeleted(route) => self.concerned.route_gone(route),
            Event::Forwarding { link, on: false } => self.concerned.forwarding_off(*link),
            _ => Concern::Nothing,
        }
    }

    /// What is concerned must be read again. Returns whether that is anything, now.
    pub(super) fn is_stale(&mut self, concern: Concern) -> bool {
        self.stale.links |= concern >= Concern::Host;
        // The kernel drops the routes of a link that goes, and may say nothing of them.
        self.stale.ours |= concern == Concern::Routes;
        self.stale.foreign |= concern == Concern::Routes;
        self.containers |= concern == Concern::Later;
        concern >= Concern::Host
    }

    /// Has the links read again if links of containers have come. Returns whether they have.
    pub(super) fn look_at_containers(&mut self) -> bool {
        self.stale.links |= self.containers;
        std::mem::take(&mut self.containers)
    }

    /// A route has changed or is gone. Its place is that of a route that is `wanted`, or not. Returns whether any must be read
    /// again.
    pub(super) fn route_changed(&mut self, route: &Route, gone: bool, wanted: bool) -> bool {
        let ours = route.protocol == RouteProtocol::OURS;
        // A replace removes the previous route without an event, whichever process made it.
        self.stale.foreign |= !gone && self.actual.is_anothers(route);
        self.stale.foreign |= !ours && self.decides_neighbours(route);
        if !ours && gone {
            self.actual.lost(route);
        } else if !ours && self.is_followed(route.key.table) {
            self.actual.saw(route);
        }
        self.stale.ours |= ours || wanted;
        self.stale != Stale::NOTHING
    }

    /// The agent has removed a route of another process: the kernel does not notify of that.
    pub(super) fn removed(&mut self, route: &Route) {
        self.actual.lost(route);
    }

    /// Whether another process's route may make a destination a neighbour on an uplink, or one no more, or change the gateways.
    fn decides_neighbours(&self, route: &Route) -> bool {
        let neighbours = || self.uplinks.iter().any(|local| local.is_decided_by(route));
        let others = || self.names.are_decided_by(route) || self.gateways.are_decided_by(route);
        self.link_routes.uses(route.key.table) && (others() || neighbours())
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
