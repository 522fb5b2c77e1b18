//! The kernel's links and routes as they were last read, and which of them must be read again.

mod changes;
mod others;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sextant_proto::Claim;

use self::others::OthersReader;
use super::{concern::Concerned, uplink_names::UplinkNames};
use crate::{
    cluster::Input,
    kernel::{
        Address, Kernel, KernelError, LOCAL_TABLE, Link, MAIN_TABLE, Route, RouteProtocol, Rule, Scope,
    },
    log_limiter::LogLimiter,
    problems::Finding,
    routes::{Actual, Foreign, ForeignReader, OursReader, container_links, selected},
    settings::{OffLink, Settings},
    uplinks::{self, Gateways, LinkRoutes, LocalUplink, Lookup, looked_up_before, lookups},
};

/// The kind of a link with a table of its own, which routes by router advertisement of its ports are in (vrf, IFLA_INFO_KIND).
const VRF: &str = "vrf";

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
    rules: Vec<Rule>,
    /// Others' routes in the tables that rules for some packets lead to.
    selected: Actual,
    link_routes: LinkRoutes,
    gateways: Arc<Gateways>,
    /// All routes by router advertisement, once they are read and until they are taken.
    advertised: Option<Vec<Route>>,
    names: UplinkNames,
    /// Shared with the basis of the desired routes.
    uplinks: Arc<Vec<LocalUplink>>,
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
            rules: Vec::new(),
            selected: Actual::default(),
            link_routes: LinkRoutes::default(),
            gateways: Arc::default(),
            advertised: None,
            uplinks: Arc::default(),
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

    pub(super) fn uplinks(&self) -> &Arc<Vec<LocalUplink>> {
        &self.uplinks
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The rules of the routing policy.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Others' routes in the tables that rules for some packets lead to.
    pub(super) fn selected(&self) -> &Foreign {
        &self.selected.foreign
    }

    /// The links that this host's containers are on, with these claims.
    pub(super) fn container_links(&self, claims: &[Claim]) -> BTreeSet<u32> {
        container_links(claims, &self.settings.bridge.name, &self.links, &self.addresses, &self.uplinks)
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
        self.names.follow(&self.links);
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
        let (mut read, mut others, mut advertised) = (BTreeMap::new(), Foreign::new(), Vec::new());
        for Lookup { table, .. } in &lookups {
            let mut reader = OthersReader::default();
            self.kernel.read_routes(Scope::Table(*table), &mut reader).await?;
            if self.is_followed(*table) {
                others.append(&mut reader.foreign.found);
            }
            advertised.append(&mut reader.advertised);
            read.insert(*table, reader.of_links);
        }
        let complete = read.contains_key(&MAIN_TABLE) && self.links.iter().all(|link| link.kind != VRF);
        self.advertised = complete.then_some(advertised);
        if !read.contains_key(&LOCAL_TABLE) && self.is_followed(LOCAL_TABLE) {
            let mut foreign = ForeignReader::default();
            self.kernel.read_routes(Scope::Table(LOCAL_TABLE), &mut foreign).await?;
            others.append(&mut foreign.found);
        }
        self.actual.foreign = others;
        self.selected.foreign = self.read_selected(&rules).await?;
        self.rules = rules;
        let all = self.settings.routes.off_link == OffLink::Gateway;
        self.gateways = Arc::new(Gateways::of(&lookups, &read, all));
        self.link_routes = LinkRoutes::new(lookups, read, self.names.towards());
        Ok(())
    }

    /// The routes by router advertisement, where all of them were just read with the others'.
    pub(super) fn take_advertised(&mut self) -> Option<Vec<Route>> {
        self.advertised.take()
    }

    async fn read_selected(&self, rules: &[Rule]) -> Result<Foreign, KernelError> {
        let (mut found, own) = (Foreign::new(), self.settings.routes.table);
        for table in selected(rules, own).collect::<BTreeSet<_>>() {
            let mut foreign = ForeignReader::default();
            self.kernel.read_routes(Scope::Table(table), &mut foreign).await?;
            found.append(&mut foreign.found);
        }
        Ok(found)
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
        self.uplinks = Arc::new(uplinks::local_uplinks(names, links, addresses, &self.link_routes));
        self.uplink_findings = uplinks::findings(names, links, addresses, &self.uplinks);
        self.uplink_findings.extend(uplinks::hidden(&self.uplinks, &self.link_routes));
        self.uplink_findings.extend(self.names.renamed().map(|(before, now)| uplinks::renamed(before, now)));
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
